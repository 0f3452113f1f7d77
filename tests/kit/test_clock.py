from __future__ import annotations

import time

import anyio
import pytest

from flexmw.kit.clock import SYSTEM


def test_the_system_s_clock_is_the_machine_s() -> None:
    assert abs(SYSTEM.now() - time.time()) < 5
    before = SYSTEM.monotonic()
    SYSTEM.sleep(0.01)
    assert SYSTEM.monotonic() - before >= 0.009
    assert repr(SYSTEM) == "SYSTEM"


@pytest.mark.anyio
async def test_a_task_sleeps_without_blocking_and_can_be_cancelled() -> None:
    with anyio.move_on_after(0.01) as scope:
        await SYSTEM.asleep(60.0)
    assert scope.cancelled_caught
    before = SYSTEM.monotonic()
    await SYSTEM.asleep(0.01)
    assert SYSTEM.monotonic() - before >= 0.009
