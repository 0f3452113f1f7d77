"""Shared state of a paced caller: several processes keep it in redis or valkey.

The pure :class:`~flexmw.pace.core.PaceState` is read, changed and written back by compare-and-swap. If another process
has written meanwhile, the change is made again on the new value. All processes use the clock of the store.

A store that does not respond delays a call by 100 ms at most: two attempts of 50 ms. After that, this process continues
alone, with the last state that it has read. It tries the store again after a second or later, and then writes the
changes that it has made meanwhile.

>>> state = PaceState(patience=5.0)
>>> flight = state.start(0.0)
>>> load(dump(state)) == state
True
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from threading import Lock
from typing import Any, Final, TypeVar

from flexmw.kit.clock import Clock
from flexmw.kit.forked import fork_safe
from flexmw.kit.store_log import StoreLog
from flexmw.pace.core import PaceState
from flexmw.pace.window import POLL, WindowEstimate

__all__ = ["NO_VALUE", "PREFIX", "SWAP", "TIMEOUT", "Change", "SharedState", "dump", "load"]

ResultT = TypeVar("ResultT")
Change = Callable[[PaceState, float], ResultT]
"""A function that changes a state, given the time in seconds of the state's clock."""

PREFIX: Final = "flexmw:pace:3:"
"""The beginning of each key in the store. The number is the version of the stored format."""

TIMEOUT: Final = 0.05
"""Seconds for one command to the store."""

_CONTENTION_SECONDS: Final = 0.25
"""Seconds of lost compare-and-swaps after which the store counts as failed once."""

_PAUSE: Final = 1.0
"""Seconds without commands after two failures. Not longer after further ones: a store that has failed over is to be
used again within a second."""

_MIN_TTL: Final = 600.0
_MAX_TTL: Final = 1e9
"""Seconds. A server may report a window of any length, but a store refuses a time to live that is too long."""

_MAX_PENDING: Final = 1000
_MAX_OPERATIONS: Final = 100
"""Operations on the store that are remembered for telemetry."""

NO_VALUE: Final = b"?"
"""A value that is never stored: a swap that expects it only reads."""

SWAP: Final = """
-- KEYS[1] the state; ARGV: the expected value ('' for none), the new value, its time to live in milliseconds
-- returns {1} if the new value was written, else {0, stored value, seconds, microseconds of the store's clock}
local found = redis.call('GET', KEYS[1]) or ''
if found == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return {1}
end
local time = redis.call('TIME')
return {0, found, time[1], time[2]}
"""


def dump(state: PaceState) -> bytes:
    """A state as it is stored."""
    return json.dumps(asdict(state), separators=(",", ":")).encode()


def load(raw: bytes) -> PaceState:
    """The inverse of :func:`dump`."""
    fields: dict[str, Any] = json.loads(raw)
    fields["expirations"] = {int(second): number for second, number in fields["expirations"].items()}
    fields["estimates"] = {int(limit): WindowEstimate(**values) for limit, values in fields["estimates"].items()}
    return PaceState(**fields)


class SharedState:
    """The state of one caller in a store. Safe for threads; its methods block.

    :param client: makes or returns a blocking redis-py client.
    :param key: the keyed hash of origin and credential. Every write gives it ten minutes to live, or twice the longest
        window.
    :param patience: the ``patience`` of a new state, in seconds.
    :param log: logs that the store is lost, and that it is back; ``None``: nothing is logged.
    """

    def __init__(
        self,
        client: Callable[[], Any],
        key: str,
        *,
        patience: float,
        clock: Clock,
        log: StoreLog | None = None,
    ) -> None:
        self._client, self._log = client, log
        self._script: Any = None
        self._key = PREFIX + key
        self._clock = clock
        self._lock = fork_safe(Lock())
        self._state = PaceState(patience=patience)
        self._store_offset = clock.now() - clock.monotonic()  # the store's time minus this process's monotonic time
        self._pending: list[Change[object]] = []  # applied to _state, not yet to the store
        self._deferred: deque[Change[None]] = deque(maxlen=_MAX_PENDING)  # not yet applied to _state either
        self._unconfirmed = b"", b""  # a value whose write had no reply, and the value that it was to replace
        self._failures = 0
        self._paused_until = 0.0
        self._wait_until = 0.0
        self._operations: deque[tuple[float, str | None]] = deque(maxlen=_MAX_OPERATIONS)

    def take_operations(self) -> list[tuple[float, str | None]]:
        """Remove and return the recorded operations on the store: the seconds of each, and the class of its error."""
        taken: list[tuple[float, str | None]] = []
        with suppress(IndexError):
            while True:
                taken.append(self._operations.popleft())
        return taken

    @property
    def known_wait(self) -> float:
        """The rest of the wait that :meth:`enter` has returned, in seconds; 0.0: call :meth:`enter` again."""
        return max(0.0, self._wait_until - self._clock.monotonic())

    def enter(self, change: Change[tuple[float, ResultT]]) -> tuple[float, ResultT | None]:
        """Ask whether a request may be sent.

        After a first failure of the store, the wait is short, and the caller asks again. After the second one, this
        process decides alone.

        :returns: the seconds to wait, or 0.0 and the second result of ``change``.
        """
        with self._lock:
            self._apply_deferred()
            if self._is_active():
                try:
                    turn = self._apply(change)
                except Exception as error:
                    if self._retry_after_failure(error):
                        return POLL / 10, None
                    turn = self._enter_alone(change)
            else:
                turn = self._enter_alone(change)
            if turn[0] and not self._deferred:
                self._wait_until = self._clock.monotonic() + turn[0]
            return turn

    def record(self, change: Change[None]) -> None:
        """Record how a request ended. Without the store, the change is written with a later one."""
        with self._lock:
            self._apply_deferred()
            self._wait_until = 0.0
            has_failed = self._failures > 0  # this call's turn had no reply: do not delay it once more
            while self._is_active() and not has_failed:
                try:
                    self._apply(change)
                except Exception as error:
                    self._retry_after_failure(error)
                else:
                    return
            self._apply_alone(change, pending=change)

    def record_later(self, change: Change[None]) -> None:
        """Record how a request ended without a command and without the lock, which another thread may hold while it
        waits for the store: for calls that must not block. The next :meth:`enter` or :meth:`record` applies it."""
        self._deferred.append(change)
        self._wait_until = 0.0

    def _apply_deferred(self) -> None:
        while self._deferred:
            change = self._deferred.popleft()
            self._apply_alone(change, pending=change)

    def _is_active(self) -> bool:
        return self._clock.monotonic() >= self._paused_until

    def _retry_after_failure(self, error: Exception) -> bool:
        """Count a failure: true after the first one, to try once more; after others, pause."""
        self._failures += 1
        if self._failures < 2:
            return True
        self._paused_until = self._clock.monotonic() + _PAUSE
        if self._log is not None:
            self._log.lost(error)
        return False

    def _enter_alone(self, change: Change[tuple[float, ResultT]]) -> tuple[float, ResultT]:
        turn = self._apply_alone(change, pending=lambda state, now: state.start(now))
        if self._log is not None and not turn[0]:
            self._log.decided_locally()
        return turn

    def _apply_alone(self, change: Change[ResultT], *, pending: Change[object]) -> ResultT:
        """Apply a change to this process's copy.

        :param pending: the change to apply to the stored state later.
        """
        result = change(self._state, self._clock.monotonic() + self._store_offset)
        if not isinstance(result, tuple) or not result[0]:  # a wait changes nothing
            self._pending = [*self._pending[-_MAX_PENDING:], pending]
        return result

    def _apply(self, change: Change[ResultT]) -> ResultT:
        """Apply all pending changes and this one to the stored state.

        :raises Exception: the store does not respond, or other processes were faster for too long.
        """
        reply = self._swap(NO_VALUE, b"", 1)
        ends = self._clock.monotonic() + _CONTENTION_SECONDS
        while self._clock.monotonic() < ends:
            stored, now = reply[1], int(reply[2]) + int(reply[3]) / 1e6
            self._store_offset = now - self._clock.monotonic()
            # A write without a reply may have been carried out. Nobody acted on it, so it is undone and made anew.
            base = self._unconfirmed[1] if stored and stored == self._unconfirmed[0] else stored
            state = load(base) if base else load(dump(self._state))
            for pending in self._pending:
                pending(state, now)
            result = change(state, now)
            window = max((estimate.window for estimate in state.estimates.values()), default=0.0)
            self._unconfirmed = dump(state), base
            ttl = min(_MAX_TTL, max(_MIN_TTL, 2 * window))
            reply = self._swap(stored, self._unconfirmed[0], int(1000 * ttl))
            self._unconfirmed = b"", b""
            if reply[0] == 1:
                self._state, self._pending, self._failures = state, [], 0
                if self._log is not None and self._log.is_lost:
                    self._log.back()
                return result
        raise TimeoutError("other processes were always faster")

    def _swap(self, expected: bytes, value: bytes, ttl_ms: int) -> Any:
        began, failure = self._clock.monotonic(), None
        try:
            if self._script is None:
                self._script = self._client().register_script(SWAP)
            return self._script(keys=[self._key], args=[expected, value, ttl_ms])
        except Exception as error:
            failure = type(error).__name__
            raise
        finally:
            self._operations.append((self._clock.monotonic() - began, failure))
