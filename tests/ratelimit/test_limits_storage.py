from __future__ import annotations

import importlib
import threading
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock

import limits.aio.strategies
import limits.storage.memory
import limits.strategies
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limits import parse
from limits.storage import storage_from_string

from flexmw.ratelimit.limits_storage import AsyncMemoryStorage, Counters, MemoryStorage
from flexmw.testing import FakeClock

SYNC: Final[Any] = limits.strategies.STRATEGIES
ASYNC: Final[Any] = limits.aio.strategies.STRATEGIES
NAMES = sorted(limits.strategies.STRATEGIES)


class _NoTimer:
    """Keeps ``memory://`` from expiring keys in a thread of its own: what it says must not depend on when that runs."""

    def __init__(self, *how: object) -> None: ...

    def start(self) -> None: ...

    def is_alive(self) -> bool:
        return True


@contextmanager
def by(clock: FakeClock) -> Generator[None]:
    """Let ``limits`` go by this clock."""
    time = SimpleNamespace(time=clock.now)
    with (
        mock.patch.object(limits.storage.memory, "time", time),
        mock.patch.object(threading, "Timer", _NoTimer),
        mock.patch.object(limits.strategies, "time", time),
        mock.patch.object(limits.aio.strategies, "time", time),
    ):
        yield


def ours(clock: FakeClock) -> MemoryStorage:
    storage: Any = storage_from_string("flexmw+memory://", clock=clock)  # type: ignore[arg-type]
    assert isinstance(storage, MemoryStorage)
    return storage


# Windows are powers of two, so that limits' floats hold every moment exactly; steps never add up to the very edge of
# one, where its moving window counts an entry when it admits and not when it tells.
STEPS = st.lists(
    st.tuples(st.integers(0, 40).map(lambda n: n / 8 + 1 / 1024), st.integers(0, 2), st.integers(1, 3)), max_size=60
)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_it_says_what_the_memory_storage_of_limits_says_for_the_same_hits(
    name: str, steps: list[tuple[float, int, int]]
) -> None:
    clock = FakeClock(now=1_800_000_000.0)
    items = [parse("5 per 4 second"), parse("3 per 8 second"), parse("20 per 16 second")]
    with by(clock):
        mine = SYNC[name](ours(clock))
        theirs = SYNC[name](limits.storage.MemoryStorage())
        for pause, which, cost in steps:
            clock.advance(pause)
            item = items[which]
            for caller in ("a", "b")[: 1 + cost % 2]:
                assert mine.test(item, caller, cost=cost) == theirs.test(item, caller, cost=cost)
                assert mine.hit(item, caller, cost=cost) == theirs.hit(item, caller, cost=cost)
            for each in items:
                said, expected = mine.get_window_stats(each, "a"), theirs.get_window_stats(each, "a")
                assert said.remaining == expected.remaining
                if expected.reset_time >= clock.now():
                    assert said.reset_time == pytest.approx(expected.reset_time, abs=2e-6, rel=0)
                else:  # theirs tells of a window that is over
                    assert said.reset_time == clock.now() + each.get_expiry()


@pytest.mark.anyio
@pytest.mark.parametrize("name", NAMES)
async def test_the_async_one_says_what_the_sync_one_says(name: str, anyio_backend: str) -> None:
    clock, item = FakeClock(), parse("5 per 4 second")
    storage: Any = storage_from_string("async+flexmw+memory://", clock=clock)  # type: ignore[arg-type]
    assert isinstance(storage, AsyncMemoryStorage)
    with by(clock):
        sync, asynchronous = (
            SYNC[name](ours(clock)),
            ASYNC[name](storage),
        )
        for number in range(40):
            clock.advance(0.3)
            assert await asynchronous.hit(item, "a", cost=1 + number % 2) == sync.hit(item, "a", cost=1 + number % 2)
            assert await asynchronous.test(item, "a") == sync.test(item, "a")
            assert await asynchronous.get_window_stats(item, "a") == sync.get_window_stats(item, "a")
        await asynchronous.clear(item, "a")
        assert (await asynchronous.get_window_stats(item, "a")).remaining == 5
        await asynchronous.hit(item, "b")
        assert await storage.check()
        assert await storage.reset()
        assert (await asynchronous.get_window_stats(item, "b")).remaining == 5


@pytest.mark.parametrize("name", NAMES)
def test_after_an_idle_time_a_window_does_not_end_in_the_past(name: str) -> None:
    clock, item = FakeClock(), parse("3/second")
    with by(clock):
        limiter = SYNC[name](ours(clock))
        for _ in range(2):
            limiter.hit(item, "a")
        clock.advance(2.5)
        reset, remaining = limiter.get_window_stats(item, "a")
    assert remaining == 3
    assert reset >= clock.now()


@pytest.mark.no_cover
@pytest.mark.parametrize("name", ["fixed-window", "moving-window"])
def test_threads_that_meet_where_a_window_ends_are_not_admitted_twice(name: str) -> None:
    clock, item, over = FakeClock(), parse("50/second"), threading.Event()
    limiter = SYNC[name](ours(clock))
    admitted: Counter[int] = Counter()

    def hammer(number: int) -> None:
        while not over.is_set():
            admitted[number] += limiter.hit(item, "a")

    rolls = 200
    with ThreadPoolExecutor(8) as pool:
        for number in range(8):
            pool.submit(hammer, number)
        for _ in range(rolls):
            while limiter.test(item, "a"):
                pass
            clock.advance(1.001)
        while limiter.test(item, "a"):
            pass
        over.set()
    assert admitted.total() == 50 * (rolls + 1)


def test_a_key_is_cleared_and_the_others_stay() -> None:
    clock, item = FakeClock(), parse("3/minute")
    storage = ours(clock)
    with by(clock):
        for kind in SYNC.values():
            limiter = kind(storage)
            limiter.hit(item, "a")
            limiter.hit(item, "b")
            limiter.clear(item, "a")
            assert limiter.get_window_stats(item, "a").remaining == 3
            assert limiter.get_window_stats(item, "b").remaining == 2
    assert storage.check()
    assert storage.reset() == 3
    assert storage.get(item.key_for("b")) == 0


def test_a_window_that_is_open_keeps_its_length() -> None:
    clock = FakeClock()
    counters = Counters(clock)
    end = clock.now() + 10
    assert [counters.incr("k", expiry, 1) for expiry in (10, 60, 1)] == [1, 2, 3]
    assert counters.expiry("k") == pytest.approx(end)
    clock.advance(10)
    assert counters.get("k") == 0
    assert counters.incr("k", 60, 1) == 1
    assert counters.expiry("k") == pytest.approx(clock.now() + 60)


@pytest.mark.parametrize("name", NAMES)
def test_a_clock_that_is_set_changes_no_count(name: str) -> None:
    clock, item = FakeClock(), parse("3/minute")
    with by(clock):
        limiter = SYNC[name](ours(clock))
        admitted = []
        for jump in (0, 7200, -7200):
            clock.step(jump)
            admitted.append([limiter.hit(item, "a") for _ in range(2)])
            assert 0 <= limiter.get_window_stats(item, "a").reset_time - clock.now() <= 120
    assert [hit for two in admitted for hit in two] == [True, True, True, False, False, False]


@pytest.mark.parametrize("name", NAMES)
def test_keys_that_nobody_uses_any_more_are_forgotten(name: str) -> None:
    clock, item = FakeClock(), parse("3/second")
    storage = ours(clock)
    with by(clock):
        limiter = SYNC[name](storage)
        before = set(threading.enumerate())
        for number in range(3_000):
            limiter.hit(item, str(number))
        for _ in range(3_000):
            clock.advance(0.01)
            limiter.hit(item, "the one who stays")
    assert not set(threading.enumerate()) - before
    held = storage.reset()
    assert held is not None
    assert held < 10


def test_the_former_module_name_warns_and_holds_the_same_classes() -> None:
    with pytest.warns(DeprecationWarning, match=r"import flexmw\.ratelimit\.limits_storage"):
        former = importlib.import_module("flexmw.ratelimit.storage")
    assert former.MemoryStorage is importlib.import_module("flexmw.ratelimit.limits_storage").MemoryStorage
