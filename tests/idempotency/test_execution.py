"""What a handler can know of its own execution."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

import flexmw
from flexmw.errors import ConfigError, RateLimitExceeded
from flexmw.idempotency import Idempotency
from flexmw.idempotency.admin import list_keys, resolve
from flexmw.idempotency.stores.memory import MemoryStore
from flexmw.testing import FakeClock
from tests.idempotency.calls import KEYED, Caller, Host

pytestmark = pytest.mark.anyio


async def run(app: Any, headers: dict[str, str] | None = None) -> Caller:
    return await Caller(app, headers=KEYED if headers is None else headers)()


async def test_a_handler_knows_its_key_and_a_request_without_one_has_none() -> None:
    seen: list[tuple[str | None, int]] = []

    async def work(scope: Any, receive: Any, send: Any) -> None:
        execution = flexmw.execution()
        seen.append((execution.key, execution.attempt))

    app = Idempotency(sdk_retries=True).asgi(Host(work=work))
    await run(app)
    await run(app, {})
    await run(app, {"x-stainless-retry-count": "0"})
    assert seen == [("8e03978e", 1), (None, 1), (None, 1)]
    assert flexmw.execution().key is None


async def test_a_step_is_not_repeated_when_the_request_is_refused_and_sent_again() -> None:
    charges: list[str] = []
    refusals = [RateLimitExceeded(1.0)]

    async def charge() -> str:
        charges.append("charged")
        return f"charge {len(charges)}"

    async def work(scope: Any, receive: Any, send: Any) -> None:
        execution = flexmw.execution()
        assert await execution.step("charge", charge) == "charge 1"
        if refusals:
            raise refusals.pop()
        assert (execution.attempt, dict(execution.steps)) == (2, {"charge": "charge 1"})

    app = Idempotency().asgi(Host(work=work))
    assert isinstance((await run(app)).raised, RateLimitExceeded)
    assert (await run(app)).answer == b"run 2"
    assert (await run(app)).replayed
    assert charges == ["charged"]


async def test_another_request_cannot_take_a_key_that_has_steps() -> None:
    async def work(scope: Any, receive: Any, send: Any) -> None:
        await flexmw.execution().record("begun")
        raise RateLimitExceeded(1.0)

    app = Idempotency().asgi(Host(work=work))
    await run(app)
    assert (await Caller(app, headers=KEYED, body=b"other")()).status == 422


async def test_a_sync_handler_records_from_its_thread() -> None:
    store = MemoryStore()
    seen: list[int] = []

    def handler() -> None:
        execution = flexmw.execution()
        anyio.from_thread.run(execution.record, "begun", {"at": 1})

    async def work(scope: Any, receive: Any, send: Any) -> None:
        await anyio.to_thread.run_sync(handler)
        (known,) = await list_keys(store)
        seen.append(len(known.steps))

    await run(Idempotency(storage=store).asgi(Host(work=work)))
    assert seen == [1]


async def test_an_attempt_that_was_taken_over_gets_an_error_when_it_records() -> None:
    store, clock, raised = MemoryStore(), FakeClock(), []

    async def work(scope: Any, receive: Any, send: Any) -> None:
        (known,) = await list_keys(store)
        await resolve(store, known.id, "run", force=True)
        try:
            await flexmw.execution().record("late")
        except RuntimeError as error:
            raised.append(str(error))

    await run(Idempotency(storage=store, clock=clock).asgi(Host(work=work)))
    assert raised == ["another attempt has taken this idempotency key over: this one must stop"]


@pytest.mark.parametrize("value", [object(), {1, 2}, "x" * 70_000])
async def test_a_value_that_cannot_be_kept_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"execution\(\)\.record\('step'"):
        await flexmw.execution().record("step", value)


async def test_outside_of_a_claim_steps_work_and_are_forgotten() -> None:
    execution = flexmw.execution()
    await execution.record("a", 1)
    assert dict(execution.steps) == {"a": 1}
    assert flexmw.execution().steps == {}
    assert repr(execution) == "Execution(key=None, attempt=1, steps=['a'])"


async def test_steps_that_are_recorded_at_the_same_time_are_all_kept() -> None:
    store = Slow(clock=FakeClock())

    async def work(scope: Any, receive: Any, send: Any) -> None:
        async with anyio.create_task_group() as group:
            for name in ("a", "b", "c"):
                group.start_soon(flexmw.execution().record, name)
        raise RateLimitExceeded(1.0)

    await run(Idempotency(storage=store).asgi(Host(work=work)))
    (kept,) = await list_keys(store, states=("open",))
    assert set(kept.steps) == {"a", "b", "c"}


class Slow(MemoryStore):
    """A store that lets others go first."""

    async def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Any:
        await anyio.lowlevel.checkpoint()
        return await super().swap(key, expected, token, entry, lease=lease, ttl=ttl)


async def test_a_step_whose_confirmation_was_lost_costs_the_execution_nothing() -> None:
    clock = FakeClock()
    store, lost = Deaf(clock=clock), list[str]()

    async def work(scope: Any, receive: Any, send: Any) -> None:
        store.deaf = True
        try:
            await flexmw.execution().record("charge", 1)
        except ConnectionError:
            lost.append("charge")
        store.deaf = False

    host = Host(work=work)
    app = Idempotency(storage=store, clock=clock).asgi(host)
    assert (await run(app)).answer == b"run 1"
    assert lost == ["charge"]
    again = await run(app)
    assert (again.answer, again.replayed, host.runs) == (b"run 1", True, 1)


class Deaf(MemoryStore):
    """A store that does what it is told and whose reply is lost."""

    deaf = False

    async def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Any:
        held = await super().swap(key, expected, token, entry, lease=lease, ttl=ttl)
        if self.deaf:
            raise ConnectionError("the reply was lost")
        return held


async def test_an_execution_without_steps_can_be_made_for_a_test_of_a_handler() -> None:
    execution = flexmw.idempotency.Execution(key="k-1", steps=None)
    assert (execution.key, execution.attempt, dict(execution.steps)) == ("k-1", 1, {})
    await execution.record("charge", 7)
    assert dict(execution.steps) == {"charge": 7}
