"""A memory storage for ``limits`` itself: for code that uses the strategies of ``limits``, or a library on top of it.

>>> from limits import parse, strategies
>>> from limits.storage import storage_from_string
>>> import flexmw.ratelimit.limits_storage  # registers flexmw+memory:// and async+flexmw+memory://
>>> limiter = strategies.MovingWindowRateLimiter(storage_from_string("flexmw+memory://"))
>>> [limiter.hit(parse("2/minute"), "caller") for _ in range(3)]
[True, True, False]

Its results are those of ``memory://`` for the same hits, without a thread, a task or a scan, whatever the number of
keys. Windows of the sliding counter are aligned to the clock, as those of ``memory://`` are. Two results differ,
because those of ``memory://`` are wrong. Threads that count at the end of a window are counted in one window, not in
two. An empty moving window begins now, not in the past. The storage counts by the monotonic clock, so setting the wall
clock neither extends a window nor ends one. The times that it returns are Unix times.

``limits`` registers a storage when the module of its class is imported; ``limits`` has no entry points for storages.
"""

from __future__ import annotations

from threading import Lock
from typing import Any, ClassVar, Final

import limits.aio.storage as aio
import limits.storage as sync

from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.expiring import ExpiringTable
from flexmw.kit.forked import fork_safe
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.algorithms.base import State
from flexmw.ratelimit.core import SECOND, Rate

__all__ = ["AsyncMemoryStorage", "Counters", "MemoryStorage"]

_FIXED: Final = ALGORITHMS["fixed-window"]
_SLIDING: Final = ALGORITHMS["sliding-window-counter"]
_MOVING: Final = ALGORITHMS["moving-window"]


class _States:
    """The states of one algorithm, by window and key. Windows and moments are in microseconds.

    :param lifetime_windows: the number of windows after which a state expires.
    """

    def __init__(self, lifetime_windows: int) -> None:
        self._lifetime_windows = lifetime_windows
        self._tables: dict[int, ExpiringTable[State]] = {}

    def find(self, key: str, now: int, window: int) -> State:
        table = self._tables.get(window)
        return None if table is None else table.get(key, now)

    def put(self, key: str, state: State, now: int, window: int) -> None:
        table = self._tables.get(window)
        if table is None:
            table = self._tables[window] = ExpiringTable(window * self._lifetime_windows)
        table.put(key, state, now)

    def windows(self) -> tuple[int, ...]:
        """The windows in use."""
        return tuple(self._tables)

    def drop(self, key: str) -> None:
        for table in self._tables.values():
            table.discard(key)

    def clear(self) -> int:
        """Remove all states. Returns their number."""
        number = sum(table.count() for table in self._tables.values())
        self._tables.clear()
        return number


class Counters:
    """The counters behind both storages. Thread-safe.

    The public methods take windows in seconds and return moments in Unix seconds, as ``limits`` does. All other
    durations and moments are in microseconds of the monotonic clock.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._wall, self._monotonic = clock.now, clock.monotonic
        # Windows of the sliding counter begin by the wall clock and last by the monotonic clock.
        self._offset = int((clock.now() - clock.monotonic()) * SECOND)
        self._fixed = _States(_FIXED.lifetime_windows)
        self._sliding = _States(_SLIDING.lifetime_windows)
        self._moving = _States(_MOVING.lifetime_windows)
        self._lock = fork_safe(Lock())

    def incr(self, key: str, expiry: float, amount: int) -> int:
        """Count without a limit. Returns the count of the key's window."""
        rate = _rate(0, expiry)
        with self._lock:
            now = self._now()
            # An open window keeps its length, even if another length is asked for now.
            window, state = self._open_window(key, now) or (rate.window_us, None)
            end, count = _FIXED.take(state, now, rate, amount)
            self._fixed.put(key, (end, count), now, window)
            return count  # type: ignore[no-any-return]

    def get(self, key: str) -> int:
        """The count of the key's window."""
        with self._lock:
            found = self._open_window(key, self._now())
            return found[1][1] if found else 0

    def expiry(self, key: str) -> float:
        """When the key's window ends; now, if no window is open."""
        with self._lock:
            now = self._now()
            found = self._open_window(key, now)
            return self._unix_seconds(found[1][0] if found else now, now)

    def acquire(self, key: str, limit: int, expiry: float, amount: int) -> bool:
        """Count ``amount`` in the moving window, if it fits. Returns whether it does."""
        rate = _rate(limit, expiry)
        with self._lock:
            now = self._now()
            log = self._moving.find(key, now, rate.window_us)
            if _MOVING.wait(log, now, rate, amount):
                return False
            self._moving.put(key, _MOVING.take(log, now, rate, amount), now, rate.window_us)
            return True

    def moving(self, key: str, expiry: float) -> tuple[float, int]:
        """When the moving window began, and its count."""
        window = _rate(0, expiry).window_us
        with self._lock:
            now = self._now()
            log = self._moving.find(key, now, window)
            used = log.used(now, window) if log else 0
            return self._unix_seconds(log.oldest(0) if used else now, now), used

    def acquire_sliding(self, key: str, limit: int, expiry: float, amount: int) -> bool:
        """Count ``amount`` in the sliding window, if it fits. Returns whether it does."""
        rate = _rate(limit, expiry)
        with self._lock:
            now = self._now()
            state = self._sliding_state(key, now, rate.window_us)
            if _SLIDING.wait(state, now, rate, amount):
                return False
            self._sliding.put(key, _SLIDING.take(state, now, rate, amount), now, rate.window_us)
            return True

    def sliding(self, key: str, expiry: float) -> tuple[int, float, int, float]:
        """The count and the time to live, in seconds, of the previous window and of the current one."""
        window = _rate(0, expiry).window_us
        with self._lock:
            now = self._now()
            end, current, previous = self._sliding_state(key, now, window)
            left = (end - now) / SECOND
            return previous, left if previous else 0.0, current, left + window / SECOND

    def clear(self, key: str) -> None:
        """Remove a key from the fixed and the moving windows."""
        with self._lock:
            self._fixed.drop(key)
            self._moving.drop(key)

    def clear_sliding(self, key: str) -> None:
        """Remove a key from the sliding windows."""
        with self._lock:
            self._sliding.drop(key)

    def reset(self) -> int:
        """Remove everything. Returns the number of states."""
        with self._lock:
            return self._fixed.clear() + self._moving.clear() + self._sliding.clear()

    def _open_window(self, key: str, now: int) -> tuple[int, tuple[int, int]] | None:
        """The open fixed window of a key: its length and its state. ``limits`` names the key, and no length."""
        for window in self._fixed.windows():
            state = self._fixed.find(key, now, window)
            if state is not None and now < state[0]:
                return window, state
        return None

    def _sliding_state(self, key: str, now: int, window: int) -> tuple[int, int, int]:
        """The state of the sliding window in which ``now`` is: the end, the count, and the count of the window before.

        Windows begin at multiples of their length on the wall clock.
        """
        end, current, previous = self._sliding.find(key, now, window) or (0, 0, 0)
        if now < end:
            return end, current, previous
        left = window - (now + self._offset) % window
        return now + left, 0, current if now < end + window else 0

    def _now(self) -> int:
        return int(self._monotonic() * SECOND)

    def _unix_seconds(self, moment: int, now: int) -> float:
        return self._wall() + (moment - now) / SECOND


def _rate(limit: int, expiry: float) -> Rate:
    return Rate(limit, int(expiry * SECOND), "", "")


class MemoryStorage(sync.Storage, sync.MovingWindowSupport, sync.SlidingWindowCounterSupport):
    """The storage ``flexmw+memory://`` for the strategies of ``limits``.

    :param clock: the clock to count by.
    """

    STORAGE_SCHEME: ClassVar[list[str]] = ["flexmw+memory"]  # type: ignore[misc]

    def __init__(
        self, uri: str | None = None, wrap_exceptions: bool = False, *, clock: Clock = SYSTEM, **options: Any
    ) -> None:
        super().__init__(uri, wrap_exceptions, **options)
        self._counters = Counters(clock)

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        return self._counters.incr(key, expiry, amount)

    def get(self, key: str) -> int:
        return self._counters.get(key)

    def get_expiry(self, key: str) -> float:
        return self._counters.expiry(key)

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        return self._counters.acquire(key, limit, expiry, amount)

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        return self._counters.moving(key, expiry)

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        return self._counters.acquire_sliding(key, limit, expiry, amount)

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        return self._counters.sliding(key, expiry)

    def clear_sliding_window(self, key: str, expiry: int) -> None:
        self._counters.clear_sliding(key)

    def clear(self, key: str) -> None:
        self._counters.clear(key)

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        return self._counters.reset()


class AsyncMemoryStorage(aio.Storage, aio.MovingWindowSupport, aio.SlidingWindowCounterSupport):
    """The storage ``async+flexmw+memory://`` for the strategies of ``limits.aio``, under asyncio and trio."""

    STORAGE_SCHEME: ClassVar[list[str]] = ["async+flexmw+memory"]  # type: ignore[misc]

    def __init__(
        self, uri: str | None = None, wrap_exceptions: bool = False, *, clock: Clock = SYSTEM, **options: Any
    ) -> None:
        super().__init__(uri, wrap_exceptions, **options)
        self._counters = Counters(clock)

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        return self._counters.incr(key, expiry, amount)

    async def get(self, key: str) -> int:
        return self._counters.get(key)

    async def get_expiry(self, key: str) -> float:
        return self._counters.expiry(key)

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        return self._counters.acquire(key, limit, expiry, amount)

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        return self._counters.moving(key, expiry)

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        return self._counters.acquire_sliding(key, limit, expiry, amount)

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        return self._counters.sliding(key, expiry)

    async def clear_sliding_window(self, key: str, expiry: int) -> None:
        self._counters.clear_sliding(key)

    async def clear(self, key: str) -> None:
        self._counters.clear(key)

    async def check(self) -> bool:
        return True

    async def reset(self) -> int | None:
        return self._counters.reset()
