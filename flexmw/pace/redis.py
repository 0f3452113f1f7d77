"""Lanes of several processes in one redis or valkey: the pure lane, read, changed and written back if nobody else did.

The store's clock is everybody's clock. A store that does not answer costs a call 100 ms at most, two questions of 50 ms
each; then the process goes on alone from the last state it saw, asks again after a second at the earliest, and brings
what it did meanwhile.

>>> lane = Lane(patience=5.0)
>>> ticket = lane.sent(0.0)
>>> loaded(dumped(lane)) == lane
True
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from threading import Lock
from typing import Any, Final, TypeVar

from flexmw.kit.clock import Clock
from flexmw.kit.store_url import StorageURL
from flexmw.pace.schedule import POLL, Lane
from flexmw.pace.window import Account

__all__ = ["PREFIX", "TIMEOUT", "Change", "Shared", "connect", "dumped", "loaded"]

ResultT = TypeVar("ResultT")
Change = Callable[[Lane, float], ResultT]

PREFIX: Final = "flexmw:pace:"
TIMEOUT: Final = 0.05
"""Seconds for one question to the store."""

_CONTENDED: Final = 0.25
"""Seconds after which a store that answers, but always somebody else first, is given up for once."""

_DEAD_SECONDS: Final = 1.0
_DEAD_SECONDS_MOST: Final = 8.0
_LIVES: Final = 600.0
_LIVES_MOST: Final = 1e9
"""Seconds: a server may call its window as long as it likes, a store takes no time to live beyond all measure."""

_MOST_PENDING: Final = 1000
_NOBODY: Final = b"?"

_SWAP: Final = """
local found = redis.call('GET', KEYS[1]) or ''
if found == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return {1}
end
local time = redis.call('TIME')
return {0, found, time[1], time[2]}
"""


def dumped(lane: Lane) -> bytes:
    """A lane as it lies in the store."""
    return json.dumps(asdict(lane), separators=(",", ":")).encode()


def loaded(raw: bytes) -> Lane:
    """The same back."""
    fields: dict[str, Any] = json.loads(raw)
    fields["flights"] = {int(second): number for second, number in fields["flights"].items()}
    fields["accounts"] = {int(limit): Account(**account) for limit, account in fields["accounts"].items()}
    return Lane(**fields)


class Shared:
    """One lane in a store. Safe for threads; blocks.

    ``key`` is a keyed hash of origin and credential. Every write gives it ten minutes to live, or two of its windows.
    """

    def __init__(self, client: Callable[[], Any], key: str, *, patience: float, clock: Clock) -> None:
        self._client = client
        self._script: Any = None
        self._key = PREFIX + key
        self._clock = clock
        self._lock = Lock()
        self._lane = Lane(patience=patience)
        self._ahead = clock.now() - clock.monotonic()
        self._pending: list[Change[object]] = []
        self._left: deque[Change[None]] = deque(maxlen=_MOST_PENDING)
        self._tried = b"", b""
        self._failures = 0
        self._dead_until = 0.0
        self._quiet_until = 0.0

    @property
    def quiet(self) -> float:
        """Seconds for which the last answer to :meth:`enter` still holds; 0.0: ask."""
        return max(0.0, self._quiet_until - self._clock.monotonic())

    def enter(self, change: Change[tuple[float, ResultT]]) -> tuple[float, ResultT | None]:
        """Ask for a turn: seconds to wait, or what ``change`` made of it. Of two questions without an answer the first
        is repeated; after the second this process decides alone."""
        with self._lock:
            self._catch_up()
            if self._alive():
                try:
                    found = self._apply(change)
                except Exception:
                    if self._failed():
                        return POLL / 10, None
                    found = self._alone(change, later=lambda lane, now: lane.sent(now))
            else:
                found = self._alone(change, later=lambda lane, now: lane.sent(now))
            if found[0] and not self._left:
                self._quiet_until = self._clock.monotonic() + found[0]
            return found

    def note(self, change: Change[None]) -> None:
        """Write down how a request ended; what the store does not hear now it hears with the next question."""
        with self._lock:
            self._catch_up()
            self._quiet_until = 0.0
            asked = self._failures  # not again by a call whose own question had no answer
            while self._alive() and not asked:
                try:
                    self._apply(change)
                except Exception:
                    self._failed()
                else:
                    return
            self._alone(change, later=change)

    def later(self, change: Change[None]) -> None:
        """The same without asking the store now, nor waiting for a thread that does: for a call that must not wait any
        more. The next question takes it along."""
        self._left.append(change)
        self._quiet_until = 0.0

    def _catch_up(self) -> None:
        while self._left:
            change = self._left.popleft()
            self._alone(change, later=change)

    def _alive(self) -> bool:
        return self._clock.monotonic() >= self._dead_until

    def _failed(self) -> bool:
        """Whether to ask once more."""
        self._failures += 1
        if self._failures < 2:
            return True
        pause = min(_DEAD_SECONDS_MOST, _DEAD_SECONDS * 2 ** (self._failures - 2))
        self._dead_until = self._clock.monotonic() + pause
        return False

    def _alone(self, change: Change[ResultT], *, later: Change[object]) -> ResultT:
        result = change(self._lane, self._clock.monotonic() + self._ahead)
        if not isinstance(result, tuple) or not result[0]:
            self._pending = [*self._pending[-_MOST_PENDING:], later]
        return result

    def _apply(self, change: Change[ResultT]) -> ResultT:
        """Read, change, write back; again if somebody else was faster.

        :raises Exception: the store does not answer, or there is no end to it.
        """
        reply = self._ask(_NOBODY, b"", 1)
        ends = self._clock.monotonic() + _CONTENDED
        while self._clock.monotonic() < ends:
            raw, now = reply[1], int(reply[2]) + int(reply[3]) / 1e6
            self._ahead = now - self._clock.monotonic()
            # What was written without an answer that it was is taken back, because nobody acted on it, and done anew.
            base = self._tried[1] if raw and raw == self._tried[0] else raw
            lane = loaded(base) if base else loaded(dumped(self._lane))
            for each in self._pending:
                each(lane, now)
            result = change(lane, now)
            window = max((account.window for account in lane.accounts.values()), default=0.0)
            self._tried = dumped(lane), base
            reply = self._ask(raw, self._tried[0], int(1000 * min(_LIVES_MOST, max(_LIVES, 2 * window))))
            self._tried = b"", b""
            if reply[0] == 1:
                self._lane, self._pending, self._failures = lane, [], 0
                return result
        raise TimeoutError("other processes were always faster")

    def _ask(self, expected: bytes, value: bytes, lives: int) -> Any:
        if self._script is None:
            self._script = self._client().register_script(_SWAP)
        return self._script(keys=[self._key], args=[expected, value, lives])


def connect(url: StorageURL) -> Any:
    """A blocking client with short timeouts; it connects with the first question."""
    from flexmw.kit import redis_client

    # A question without an answer is not repeated by the client. In a cluster redis-py decides.
    return redis_client.connect(url, timeout=TIMEOUT, resend="closed", cluster_resend="driver")
