"""The log of a running response is copied to the store by demand, under the lock of the claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from flexmw.idempotency.claim import Claim, Claims, TakenOver
from flexmw.idempotency.core import KeyedRequest, StoredResponse
from flexmw.idempotency.log import ResponseLog, RunningLogs
from flexmw.idempotency.log_head import LogHead
from flexmw.idempotency.log_reader import LogReader
from flexmw.idempotency.log_writer import LogWriter, log_writer
from flexmw.idempotency.stores import Appended, Held, Piece
from flexmw.idempotency.stores.memory import MemoryStore
from flexmw.testing import FakeClock
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio

EVENT = b"data: 1\n\n"


class SteppedClock(FakeClock):
    """A clock whose sleepers wait until the test has moved it."""

    def __init__(self) -> None:
        super().__init__()
        self._moved = anyio.Event()

    async def asleep(self, seconds: float) -> None:
        until = self.monotonic() + seconds
        while self.monotonic() < until:
            await self._moved.wait()

    async def pass_by(self, seconds: float) -> None:
        """Let time pass in steps, each long enough for every task to do what it has to do by then."""
        for _ in range(round(seconds / 0.05)):
            self.advance(0.05)
            moved, self._moved = self._moved, anyio.Event()
            moved.set()
            for _ in range(20):
                await anyio.lowlevel.checkpoint()


class Counting(MemoryStore):
    """A store that counts its commands, and that can lose what a test says."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands: Counter[str] = Counter()
        self.loses_replies = 0
        self.is_away = False

    async def load(self, key: str) -> Held | None:
        self.commands["load"] += 1
        return await super().load(key)

    async def swap(self, *arguments: Any, **options: Any) -> Held | None:
        self.commands["swap"] += 1
        return await super().swap(*arguments, **options)

    async def extend(self, *arguments: Any, **options: Any) -> bool:
        self.commands["extend"] += 1
        return await super().extend(*arguments, **options)

    async def append(self, *arguments: Any, **options: Any) -> Appended | None:
        self.commands["append"] += 1
        if self.is_away:
            raise ConnectionError("the store is away")
        appended = await super().append(*arguments, **options)
        if self.loses_replies:
            self.loses_replies -= 1
            raise ConnectionError("the reply was lost")
        return appended


class Execution:
    """One execution whose log is copied."""

    def __init__(self, store: Counting, claims: Claims, claim: Claim, max_body: int) -> None:
        self.store, self.claims, self.claim = store, claims, claim
        self.log = ResponseLog(claim.record.generation, max_body=max_body, clock=claims.clock.monotonic)
        writer = log_writer(claim, self.log, claims.clock)
        assert writer is not None
        self.writer: LogWriter = writer

    async def piece(self) -> Piece | None:
        """The log in the store. Does not count as a reader."""
        slot = self.store._slots["k"]
        wanted_at = slot.wanted_at
        piece = await self.store.read("k", self.log.generation, 0, 1 << 20)
        slot.wanted_at = wanted_at
        return piece

    async def complete(self) -> None:
        body = self.log.read(0, 1 << 20)
        await self.claim.complete(StoredResponse(status=200, body=body, size=len(body)))
        self.log.end()


@asynccontextmanager
async def execution(clock: SteppedClock, *, max_body: int = 1 << 20) -> AsyncGenerator[Execution]:
    store = Counting(clock=clock)
    claims = Claims(store=store, clock=clock, lease=60.0, ttl=600.0, sdk_window=600.0, on_unknown="run")
    claim = await claims.claim("k", KeyedRequest(key="k", fingerprint="f", now=0.0), ttl=600.0)
    assert isinstance(claim, Claim)
    made = Execution(store, claims, claim, max_body)
    with anyio.fail_after(LONGEST_WAIT):
        async with anyio.create_task_group() as group:
            group.start_soon(made.writer.run)
            yield made
            group.cancel_scope.cancel()


async def test_an_uncut_stream_of_four_and_a_half_seconds_costs_at_most_eight_commands() -> None:
    clock = SteppedClock()
    async with execution(clock) as made:
        for _ in range(90):
            made.log.append(EVENT)
            await clock.pass_by(0.05)
        await made.complete()
        await clock.pass_by(2.0)
        assert sum(made.store.commands.values()) <= 8
        assert made.store.commands["append"] <= 5


async def test_sixteen_kibibytes_are_written_before_the_second_is_over() -> None:
    clock = SteppedClock()
    async with execution(clock) as made:
        made.log.append(b"x" * 16_384)
        await clock.pass_by(0.4)
        piece = await made.piece()
        assert piece is not None
        assert piece.size == 16_384
        assert LogHead.decode(piece.head) == LogHead(200)


@pytest.mark.parametrize("cause", ["reader", "departure"])
async def test_a_log_that_somebody_wants_is_written_at_once_and_then_slowly_again(cause: str) -> None:
    clock = SteppedClock()
    async with execution(clock) as made:
        made.log.append(EVENT)
        if cause == "reader":
            await made.store.read("k", made.log.generation, 0, 0)
            await clock.pass_by(1.2)  # the writer learns of readers by its next write
        else:
            made.writer.hurry()
            await clock.pass_by(0.1)
        assert made.store.commands["append"] == 1
        for number in range(1, 11):
            made.log.append(EVENT)
            await clock.pass_by(0.1)
            assert made.store.commands["append"] == 1 + number
        await clock.pass_by(4.0)
        before = made.store.commands["append"]
        for _ in range(20):
            made.log.append(EVENT)
            await clock.pass_by(0.1)
        assert made.store.commands["append"] - before <= 3


async def test_a_reply_that_was_lost_adds_its_bytes_once() -> None:
    clock = SteppedClock()
    async with execution(clock) as made:
        for _ in range(6):
            made.store.loses_replies = 1
            made.log.append(EVENT)
            await clock.pass_by(1.5)
        await clock.pass_by(8.0)
        piece = await made.piece()
        assert piece is not None
        assert piece.data == EVENT * 6


async def test_a_store_that_was_away_gets_all_of_the_log_later() -> None:
    clock = SteppedClock()
    async with execution(clock) as made:
        made.store.is_away = True
        for _ in range(8):
            made.log.append(EVENT)
            await clock.pass_by(0.5)
        made.store.is_away = False
        await clock.pass_by(2.5)
        piece = await made.piece()
        assert piece is not None
        assert piece.data == EVENT * 8


async def lose_all(made: Execution) -> None:
    made.store._slots.clear()
    made.store._bytes = 0


async def record_a_step(made: Execution) -> None:
    await made.claim.record_steps({"step": 1})


@pytest.mark.parametrize("event", [lose_all, record_a_step])
async def test_a_log_that_the_store_has_lost_or_dropped_is_written_again(event: Callable[[Execution], Any]) -> None:
    clock = SteppedClock()
    async with execution(clock) as made:
        made.log.append(EVENT)
        await clock.pass_by(1.5)
        await event(made)
        made.log.append(EVENT)
        await clock.pass_by(3.0)
        piece = await made.piece()
        assert piece is not None
        assert piece.data == EVENT * 2
        assert piece.head == LogHead(200).encode()


async def test_a_writer_that_was_overtaken_writes_nothing_more() -> None:
    clock = SteppedClock()
    async with execution(clock) as made:
        made.log.append(EVENT)
        await clock.pass_by(1.5)
        clock.advance(100.0)  # the process was asleep
        other = await made.claims.claim("k", KeyedRequest(key="k", fingerprint="f", now=0.0), ttl=600.0)
        assert isinstance(other, Claim)
        assert other.record.generation != made.log.generation
        made.log.append(EVENT)
        await clock.pass_by(2.0)
        assert await made.piece() is None
        with pytest.raises(TakenOver):
            await made.claim.append(0, EVENT)
        before = made.store.commands["append"]
        made.log.append(EVENT)
        await clock.pass_by(3.0)
        assert made.store.commands["append"] == before


@pytest.mark.parametrize("begun", [False, True])
async def test_followers_of_a_response_that_grew_too_long_are_told(begun: bool) -> None:
    clock = SteppedClock()
    async with execution(clock, max_body=20) as made:
        if begun:
            made.log.append(EVENT)
            await clock.pass_by(1.5)
        made.log.append(b"x" * 30)
        await clock.pass_by(1.5)
        reader = LogReader(made.claims, RunningLogs(), "k", made.log.generation)
        assert (await reader.look(len(EVENT) * begun, 100)).state == "too_large"


async def test_what_is_settled_between_two_looks_goes_on_in_the_stored_response() -> None:
    clock = SteppedClock()
    async with execution(clock) as made:
        made.log.append(EVENT)
        await clock.pass_by(1.5)
        reader = LogReader(made.claims, RunningLogs(), "k", made.log.generation)
        first = await reader.look(0, 100)
        made.log.append(EVENT)
        await made.complete()
        rest = await reader.look(len(first.data), 100)
        assert (first.data, first.state) == (EVENT, "running")
        assert (rest.data, rest.size, rest.state) == (EVENT, 2 * len(EVENT), "whole")
