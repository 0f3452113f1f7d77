from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

from flexmw.kit.clock import Clock
from flexmw.testing import FakeClock
from tests.waiting import LONGEST_WAIT


def test_sleeping_moves_both_clocks_at_once_and_is_written_down() -> None:
    fake = FakeClock(now=100.0, monotonic=5.0)
    clock: Clock = fake  # satisfies the protocol

    clock.sleep(34.5)
    clock.sleep(0)

    assert (clock.now(), clock.monotonic()) == (134.5, 39.5)
    assert fake.slept == [34.5, 0]


def test_advancing_moves_both_clocks_and_is_no_sleep() -> None:
    clock = FakeClock(now=100.0, monotonic=5.0)
    clock.advance(2.0)
    assert (clock.now(), clock.monotonic(), clock.slept) == (102.0, 7.0, [])


def test_a_time_server_moves_the_wall_clock_alone() -> None:
    clock = FakeClock(now=100.0, monotonic=5.0)
    clock.step(-60.0)
    assert (clock.now(), clock.monotonic()) == (40.0, 5.0)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_a_sleep_that_the_system_would_refuse_is_refused(seconds: float) -> None:
    clock = FakeClock(now=100.0)
    with pytest.raises(ValueError, match="seconds must be finite"):
        clock.sleep(seconds)
    assert (clock.now(), clock.slept) == (100.0, [])


def test_the_list_of_sleeps_is_the_callers_own() -> None:
    clock = FakeClock()
    clock.sleep(1.0)
    clock.slept.clear()
    assert clock.slept == [1.0]


def test_no_second_is_lost_between_threads() -> None:
    clock = FakeClock(now=0.0)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(clock.sleep, [1.0] * 2000))
    assert clock.now() == len(clock.slept) == 2000


@pytest.mark.anyio
async def test_a_task_sleeps_without_time_passing() -> None:
    clock = FakeClock(now=100.0)
    with anyio.fail_after(LONGEST_WAIT):
        await clock.asleep(3600.0)
    assert (clock.now(), clock.slept) == (3700.0, [3600.0])


@pytest.mark.anyio
async def test_a_cancelled_task_does_not_sleep() -> None:
    clock = FakeClock(now=100.0)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await clock.asleep(1.0)
    assert scope.cancelled_caught
    assert (clock.now(), clock.slept) == (100.0, [])
