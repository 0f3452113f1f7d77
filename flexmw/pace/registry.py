"""Registry of paced callers: one state for each origin, credential and bucket, in this process or in a shared store.

>>> from flexmw.kit.clock import SYSTEM
>>> from flexmw.kit.store_url import parse
>>> registry = PaceRegistry(parse("memory://", "storage"), patience=5.0, clock=SYSTEM)
>>> state, lock = registry.local("https://api.example:443")
>>> state.in_flight
0
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from math import inf
from secrets import token_bytes
from threading import Lock
from typing import Any, Final

from flexmw.contract import ACCOUNTS, CREDENTIALS, lasting_part
from flexmw.kit.clock import Clock
from flexmw.kit.effects import Request
from flexmw.kit.forked import fork_safe
from flexmw.kit.headers import has_any
from flexmw.kit.identity import CallerHasher
from flexmw.kit.store_log import Fallback, StoreLog
from flexmw.kit.store_url import REDIS_FAMILIES, StorageURL, schemes_of
from flexmw.pace.core import PaceState
from flexmw.pace.headers import read_limit
from flexmw.pace.redis import NO_VALUE, PREFIX, SWAP, TIMEOUT, SharedState
from flexmw.pace.window import RateReading

__all__ = ["SCHEMES", "KnownClass", "KnownRoot", "PaceRegistry", "caller_of", "state_key"]

SCHEMES: Final = schemes_of("memory", *REDIS_FAMILIES)
"""The schemes that the URL of a store may have."""

_SECRET: Final = token_bytes(16)
_MAX_ENTRIES: Final = 4096
_entries: OrderedDict[tuple[str, Clock, bytes], Any] = OrderedDict()
_classes: OrderedDict[tuple[str, Clock, bytes], Any] = OrderedDict()
_clients: dict[str, Any] = {}
_store_logs: dict[str, StoreLog] = {}
_lock = fork_safe(Lock())
_log: Final = logging.getLogger("flexmw.pace")
_probed: Final[set[tuple[str, int]]] = set()
_FALLBACK: Final = Fallback(
    "Pace goes on in this process alone until it responds", "Pace gave {count} turns in this process alone"
)
_PROBE_SECONDS: Final = 0.5
_STEPS: Final = 4
"""The network round trips of one command at most: a new connection needs three of them."""


_ACCOUNT_NAMES: Final = frozenset(name.encode() for name in ACCOUNTS)


def caller_of(request: Request) -> str:
    """Return the origin, the credential and the account of a request. Requests with the same three count against the
    same limits."""
    url, headers = request.url, request.headers
    credential = next((headers[name] for name in CREDENTIALS if name in headers), "")
    if " " in credential:
        credential = lasting_part(credential)
    caller = f"{url.scheme}://{url.host}:{url.port}\n{credential}"
    if has_any(headers, _ACCOUNT_NAMES):
        caller += "".join(f"\n{name}={headers[name]}" for name in ACCOUNTS if name in headers)
    return caller


def state_key(caller: str, bucket_key: str) -> str:
    """Return the key of a bucket's state. The first bucket of a caller has the empty key."""
    return f"{caller}\n{bucket_key}" if bucket_key else caller


@dataclass(slots=True)
class KnownClass:
    """The knowledge of this process about one class of requests of one caller.

    :param bucket_key: key of the bucket that its last response counted against; ``None``: no response has shown it.
    :param uncounted: number of requests without a response that were sent before the bucket was known.
    """

    bucket_key: str | None = None
    uncounted: int = 0


@dataclass(slots=True)
class KnownRoot:
    """The bucket of all known classes with the same root.

    :param bucket_key: the key of the bucket; ``None``: there is none yet, or the classes have several buckets.
    :param is_divided: the classes have several buckets.
    :param first_class: the class that was recorded first.
    :param is_proven: two classes have shown that they share the bucket.
    :param probe_until: the end of the wait of other new classes for the response to a request that was sent at once, in
        monotonic seconds.
    """

    bucket_key: str | None = None
    is_divided: bool = False
    first_class: str | None = None
    is_proven: bool = False
    probe_until: float = -inf

    def add(self, bucket_key: str, class_key: str) -> None:
        """Record the bucket of one class."""
        self.is_divided = self.is_divided or self.bucket_key not in (None, bucket_key)
        self.bucket_key = None if self.is_divided else bucket_key
        self.first_class = self.first_class or class_key
        self.is_proven = self.is_proven or class_key != self.first_class
        self.probe_until = -inf

    def start_probe(self, now: float, patience: float) -> bool:
        """Return whether a request of a new class may be sent at once to learn its bucket. Only one may at a time."""
        if now < self.probe_until:
            return False
        self.probe_until = now + patience
        return True


class PaceRegistry:
    """The states in the store of one URL. All registries of a process share them, and so do all clients.

    Credentials are not kept: the keys are keyed hashes.

    :param url: the URL of the store, with one of :data:`SCHEMES`.
    :param patience: the ``patience`` of new states, in seconds.
    :param pepper: the key of the hash in a shared store; ``None``: see :class:`~flexmw.kit.identity.CallerHasher`.
    """

    def __init__(self, url: StorageURL, *, patience: float, clock: Clock, pepper: str | bytes | None = None) -> None:
        self._url = url
        self._patience, self._clock = patience, clock
        self._hasher = CallerHasher(pepper=pepper, option="Pace: ")
        self.is_shared = not url.scheme.embedded

    def probe(self, option: str) -> None:
        """Test the store once in each process. If the store cannot be reached, log a WARNING: Pace works without it.

        :param option: the name of the option, for the message of an error.
        :raises ConfigError: the store refuses the credentials or a command.
        """
        key = self._url.url, os.getpid()
        if not self.is_shared or key in _probed:
            return
        from flexmw.kit.redis_probe import probe_redis  # imports redis-py, which is an extra

        def run(client: Any) -> None:
            name = f"{PREFIX}{{probe}}"
            script = client.register_script(SWAP)
            script(keys=[name], args=[NO_VALUE, b"", 1])
            client.eval("return redis.call('SET', KEYS[1], '', 'PX', 1)", 1, name)

        probe_redis(self._url, option, run, required=False, log=_log, timeout=_PROBE_SECONDS)
        _probed.add(key)

    def local(self, caller: str) -> tuple[PaceState, Lock]:
        """Return the state of a caller in this process, and the lock that guards it."""
        state: PaceState = self._entry(caller, lambda: PaceState(patience=self._patience))
        return state, _lock

    def shared(self, caller: str) -> SharedState:
        """Return the state of a caller in the store."""
        state: SharedState = self._entry(caller, lambda: self._make_shared(caller))
        return state

    def known_class(self, caller: str, name: str) -> KnownClass:
        """Return the knowledge about a class of requests."""
        known: KnownClass = self._entry(f"{caller}\n{name}", KnownClass, "class:", _classes)
        return known

    def known_root(self, caller: str, name: str) -> KnownRoot:
        """Return the knowledge about the classes with one root."""
        known: KnownRoot = self._entry(f"{caller}\n{name}", KnownRoot, "root:", _classes)
        return known

    def start_probe(self, root: KnownRoot) -> bool:
        """Return whether a request of a new class may be sent at once: see :meth:`KnownRoot.start_probe`."""
        with _lock:
            return root.start_probe(self._clock.monotonic(), self._patience)

    def count(self, known: KnownClass, number: int) -> None:
        """Change the number of uncounted requests of a class."""
        with _lock:
            known.uncounted += number

    def is_first_report(self, origin: str) -> bool:
        """Return True the first time for an origin, and False while the origin is remembered."""
        reported = self._entry(origin, dict[str, bool], "reported:", _classes)
        return not reported.get("done") and not reported.update(done=True)

    def read(self, caller: str, headers: Mapping[str, str], sent_at: float, received_at: float) -> RateReading | None:
        """Read the rate-limit headers of a response, and remember the offset of the server's clock.

        :param headers: response headers; names in lower case.
        :param sent_at: when the request was sent, Unix seconds.
        :param received_at: when the response arrived, Unix seconds.
        """
        known = self._entry(caller, dict[str, float], "clock:")
        reading, clock_offset = read_limit(headers, sent_at, received_at, known.get("clock_offset"))
        if clock_offset is not None:
            known["clock_offset"] = clock_offset
        return reading

    def _make_shared(self, caller: str) -> SharedState:
        key = self._hasher.of_key(caller.encode("utf-8", "replace")).digest
        return SharedState(self._client, key, patience=self._patience, clock=self._clock, log=self._store_log())

    def _store_log(self) -> StoreLog:
        """Return the log of the store, which all callers of this process share."""
        log = _store_logs.get(self._url.url)
        if log is None:
            log = _store_logs[self._url.url] = StoreLog(
                "flexmw.pace",
                self._url.shown,
                _FALLBACK,
                monotonic=self._clock.monotonic,
                secrets=self._url.secrets,
            )
        return log

    def _client(self) -> Any:
        from flexmw.kit.redis_blocking import BlockingNodes  # imports redis-py, which is an extra

        with _lock:
            client = _clients.get(self._url.url)
            if client is None:
                client = BlockingNodes(self._url, timeout=_STEPS * TIMEOUT, step=TIMEOUT)
                _clients[self._url.url] = client
        return client

    def _entry(
        self,
        caller: str,
        make: Callable[[], Any],
        kind: str = "",
        entries: OrderedDict[tuple[str, Clock, bytes], Any] = _entries,
    ) -> Any:
        raw = caller.encode("utf-8", "replace")
        key = kind + self._url.url, self._clock, blake2b(raw, key=_SECRET, digest_size=16).digest()
        with _lock:
            entry = entries.get(key)
            if entry is None:
                entry = entries[key] = make()
                if len(entries) > _MAX_ENTRIES:
                    entries.popitem(last=False)
            else:
                entries.move_to_end(key)
        return entry
