"""Isolate tests of an app or a client: forget state between tests, fake the clock, replace stores by memory.

The fixtures of ``pytest_flexmw.py`` call these functions; ``unittest`` and other runners can call them too.

>>> import flexmw
>>> with memory_stores():
...     flexmw.RateLimit("10/minute", storage="redis://no-such-host:6379").storage
'memory://'
>>> with fake_clock() as clock:
...     clock.advance(60.0)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final

from flexmw.idempotency import Idempotency
from flexmw.kit import clock as clock_module
from flexmw.kit.clock import SYSTEM
from flexmw.kit.storage import is_redis_client
from flexmw.kit.transport_async import AsyncTransportBase
from flexmw.kit.transport_blocking import SyncTransportBase
from flexmw.pace import Pace
from flexmw.ratelimit import RateLimit
from flexmw.testing.clock import FakeClock

__all__ = ["fake_clock", "memory_stores", "reset", "use_memory_stores"]

_MEMORY: Final = "memory://"
_COMPONENTS: Final[tuple[type[Any], ...]] = (RateLimit, Idempotency, Pace)

_AGE: Final = 3 * 366 * 86_400.0
"""Seconds that :func:`reset` lets pass. The state of the longest window, a calendar year, is forgotten after two."""


class _Time:
    """Stands in for the module ``time`` in :mod:`flexmw.kit.clock`, which looks its functions up at each call. So the
    clock of a component that was made long ago is moved too, and the real clock costs nothing more.

    :ivar passed: seconds that the monotonic clock is ahead of the machine's.
    :ivar fake: the clock that stands still; ``None`` while time passes.
    """

    def __init__(self) -> None:
        self.passed = 0.0
        self.fake: FakeClock | None = None

    def time(self) -> float:
        return time.time() if self.fake is None else self.fake.now()

    def monotonic(self) -> float:
        return time.monotonic() + self.passed if self.fake is None else self.fake.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


_time: Final = _Time()


def _installed() -> _Time:
    module: Any = clock_module
    module.time = _time
    return _time


def reset() -> None:
    """Forget what components of this process hold in memory, by letting three years pass on the monotonic clock of all
    components: counts of limits, idempotency keys and their responses, what Retry and Pace have learned. The wall clock
    stays, so headers with times are right.

    What does not age is not forgotten: a ``budget`` of RateLimit, idempotency keys with a ``ttl`` of more than three
    years, slots of requests that still run, and every store outside of this process.
    """
    moved = _installed()
    if moved.fake is not None:
        moved.fake.advance(_AGE)
        moved.fake.step(-_AGE)
    else:
        moved.passed += _AGE


@contextmanager
def fake_clock() -> Generator[FakeClock]:
    """Stop the clock of all components of this process, also of those that exist already.

    The clock begins at the real time, and moves by ``advance`` and by the waits of clients (Retry, Pace), which take no
    real time and are recorded in ``slept``. Waits inside servers, such as the heartbeats of idempotency keys, take real
    time. At the end, the monotonic clock goes on where it was moved to: it never goes backwards.

    A component with a clock of its own keeps it. So do the time limits of sockets and stores.
    """
    moved = _installed()
    outer = moved.fake
    clock = FakeClock(moved.time(), monotonic=moved.monotonic())
    moved.fake = clock
    blocking: Any = SyncTransportBase
    waiting: Any = AsyncTransportBase
    sleeps = blocking._sleep, waiting._sleep

    def sleep(self: Any, seconds: float) -> None:
        if self._clock is not SYSTEM:
            sleeps[0](self, seconds)
        else:
            clock.sleep(seconds)

    async def asleep(self: Any, seconds: float) -> None:
        if self._clock is not SYSTEM:
            await sleeps[1](self, seconds)
        else:
            await clock.asleep(seconds)

    blocking._sleep, waiting._sleep = sleep, asleep
    try:
        yield clock
    finally:
        blocking._sleep, waiting._sleep = sleeps
        moved.fake = outer
        moved.passed = max(moved.passed, clock.monotonic() - time.monotonic())


def use_memory_stores() -> Callable[[], None]:
    """Let RateLimit, Idempotency and Pace keep their state in memory from now on, whatever ``storage`` they name. So an
    app can be imported without its redis. Components that exist already, and stores that are objects, stay.

    :return: a function that ends it.
    """
    originals: list[tuple[Any, Any]] = [(cls, vars(cls)["__init__"]) for cls in _COMPONENTS]
    for cls, original in originals:
        cls.__init__ = _in_memory(original)

    def end() -> None:
        for cls, original in originals:
            cls.__init__ = original

    return end


@contextmanager
def memory_stores() -> Generator[None]:
    """:func:`use_memory_stores` for the components that are made in a block."""
    end = use_memory_stores()
    try:
        yield
    finally:
        end()


def _in_memory(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def __init__(self: Any, /, *values: Any, **options: Any) -> None:  # noqa: N807
        storage = options.get("storage")
        if isinstance(storage, str) or is_redis_client(storage):
            options["storage"] = _MEMORY
        original(self, *values, **options)

    return __init__
