"""Where the lanes of a process are: one for each origin and credential, in memory or in a shared store.

>>> from flexmw.kit.clock import SYSTEM
>>> Lanes(parse("memory://", "storage"), patience=5.0, clock=SYSTEM).local("some key") is not None
True
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import blake2b
from secrets import token_bytes
from threading import Lock
from typing import Any, Final

from flexmw.contract import CREDENTIALS
from flexmw.kit.clock import Clock
from flexmw.kit.effects import Request
from flexmw.kit.identity import CallerHasher
from flexmw.kit.store_url import StorageURL, parse, schemes_of
from flexmw.pace.headers import word_of
from flexmw.pace.redis import Shared, connect
from flexmw.pace.schedule import Lane, Word

__all__ = ["SCHEMES", "Lanes", "caller_of", "parse"]

SCHEMES: Final = schemes_of("memory", "redis", "redis+cluster")

_SECRET: Final = token_bytes(16)
_MOST_LANES: Final = 4096
_lanes: OrderedDict[tuple[str, Clock, bytes], Any] = OrderedDict()
_clients: dict[str, Any] = {}
_lock = Lock()


def caller_of(request: Request) -> str:
    """What makes requests count together: the origin and the credential."""
    url = request.url
    credential = next((request.headers[name] for name in CREDENTIALS if name in request.headers), "")
    return f"{url.scheme}://{url.host}:{url.port}\n{credential}"


class Lanes:
    """What is known is shared by all clients of the process; in memory no credential is kept, only a keyed hash."""

    def __init__(self, url: StorageURL, *, patience: float, clock: Clock, pepper: str | bytes | None = None) -> None:
        self._url = url
        self._patience, self._clock = patience, clock
        self._callers = CallerHasher(pepper=pepper, option="Pace: ")
        self.shared = url.scheme.family != "memory"

    def local(self, caller: str) -> tuple[Lane, Lock]:
        """The lane of this process alone and the lock that guards it."""
        lane: Lane = self._of(caller, lambda: Lane(patience=self._patience))
        return lane, _lock

    def stored(self, caller: str) -> Shared:
        """The lane in the store."""
        found: Shared = self._of(caller, lambda: self._share(caller))
        return found

    def read(self, caller: str, headers: Mapping[str, str], sent: float, received: float) -> Word | None:
        """What an answer tells; what it shows of the server's clock is remembered for the next one."""
        held = self._of(caller, dict[str, float], "clock:")
        word, ahead = word_of(headers, sent, received, held.get("ahead"))
        if ahead is not None:
            held["ahead"] = ahead
        return word

    def _share(self, caller: str) -> Shared:
        key = self._callers.of_key(caller.encode("utf-8", "replace")).digest
        return Shared(self._client, key, patience=self._patience, clock=self._clock)

    def _client(self) -> Any:
        with _lock:
            client = _clients.get(self._url.url)
        # Made outside the lock, because it imports redis-py; of two made at once one is used.
        return client or _clients.setdefault(self._url.url, connect(self._url))

    def _of(self, caller: str, make: Callable[[], Any], kind: str = "") -> Any:
        raw = caller.encode("utf-8", "replace")
        key = kind + self._url.url, self._clock, blake2b(raw, key=_SECRET, digest_size=16).digest()
        with _lock:
            lane = _lanes.get(key)
            if lane is None:
                lane = _lanes[key] = make()
                if len(_lanes) > _MOST_LANES:
                    _lanes.popitem(last=False)
            else:
                _lanes.move_to_end(key)
        return lane
