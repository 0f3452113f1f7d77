"""One log, any order of events: append, cut, read, expire, take over, settle, crash. On every store in one process.

What must hold: the bytes of a reader are a prefix of one generation's response; it sees a clean end only of a response
that has ended; a writer that was overtaken adds nothing; and a log never outlives its key.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from flexmw.idempotency.claim import Claim, Claims, TakenOver
from flexmw.idempotency.core import KeyedRequest, StoredResponse
from flexmw.idempotency.log import RunningLogs
from flexmw.idempotency.log_head import LogHead
from flexmw.idempotency.log_reader import LogReader
from flexmw.idempotency.stores import Store
from flexmw.idempotency.stores.memory import MemoryStore
from flexmw.idempotency.stores.sqlite import SQLiteStore
from flexmw.idempotency.stores.threads import Threaded
from flexmw.testing import FakeClock

LEASE, TTL = 60.0, 100_000.0
T = TypeVar("T")


class Producer:
    """An execution, and what it has made of its response so far."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.body = b""
        self.written = 0
        self.ended = False


class Reader:
    """A connection that is sent the response of one generation."""

    def __init__(self, producer: Producer, reader: LogReader) -> None:
        self.producer, self.reader = producer, reader
        self.data = b""


class Logs(RuleBasedStateMachine):
    """Producers and readers of one key."""

    producers = Bundle("producers")
    readers = Bundle("readers")

    def make_store(self) -> Store:
        return MemoryStore(clock=self.clock)

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.claims = Claims(
            store=self.make_store(), clock=self.clock, lease=LEASE, ttl=TTL, sdk_window=600.0, on_unknown="run"
        )
        self.holder: Producer | None = None

    def teardown(self) -> None:
        self.runner.run(self.claims.store.aclose())
        self.runner.close()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @rule(target=producers)
    def arrive(self) -> Producer | None:
        outcome = self.do(self.claims.claim("k", KeyedRequest(key="k", fingerprint="f", now=0.0), ttl=TTL))
        if isinstance(outcome, Claim):
            self.holder = Producer(outcome)
            return self.holder
        return None

    @rule(producer=producers, data=st.binary(max_size=5), lost=st.booleans())
    def append(self, producer: Producer | None, data: bytes, lost: bool) -> None:
        """``lost``: the write was carried out, and its reply did not arrive."""
        if producer is None or producer.ended:
            return
        producer.body += data
        batch = producer.body[producer.written :]
        try:
            appended = self.do(producer.claim.append(producer.written, batch, head=LogHead(200).encode()))
        except TakenOver:
            assert producer is not self.holder
            producer.ended = True
            return
        assert producer is self.holder
        assert appended.size <= len(producer.body)
        if not lost:
            producer.written = appended.size

    @rule(producer=producers)
    def record_a_step(self, producer: Producer | None) -> None:
        if producer is not None and producer is self.holder:
            self.do(producer.claim.record_steps({"step": 1}))

    @rule(producer=consumes(producers))
    def settle(self, producer: Producer | None) -> None:
        if producer is None or producer.ended:
            return
        producer.ended = True
        response = StoredResponse(status=200, body=producer.body, size=len(producer.body))
        assert self.do(producer.claim.complete(response)) is (producer is self.holder)

    @rule(producer=consumes(producers))
    def crash(self, producer: Producer | None) -> None:
        """SIGKILL: nobody says anything."""

    @rule(seconds=st.sampled_from([1.0, LEASE, 2 * LEASE, 2 * TTL]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(target=readers, producer=producers, start=st.integers(0, 8))
    def attach(self, producer: Producer | None, start: int) -> Reader | None:
        """A client that has some bytes comes to another process."""
        if producer is None:
            return None
        reader = Reader(producer, LogReader(self.claims, RunningLogs(), "k", producer.claim.record.generation))
        reader.data = producer.body[:start]
        return reader

    @rule(reader=readers, limit=st.integers(1, 9))
    def read(self, reader: Reader | None, limit: int) -> None:
        if reader is None:
            return
        look = self.do(reader.reader.look(len(reader.data), limit))
        reader.data += look.data
        assert len(look.data) <= limit
        assert reader.producer.body.startswith(reader.data)
        if look.state == "whole":
            assert reader.producer.ended
            assert look.size == len(reader.producer.body)

    @rule(reader=consumes(readers))
    def cut(self, reader: Reader | None) -> None:
        """The connection is gone."""

    @invariant()
    def a_log_lives_as_long_as_its_key(self) -> None:
        if not hasattr(self, "holder") or self.holder is None:
            return
        store: Any = self.claims.store
        if self.do(store.load("k")) is None:
            assert self.do(store.read("k", self.holder.claim.record.generation, 0, 9)) is None


class SQLiteLogs(Logs):
    """The same on a file."""

    def make_store(self) -> Store:
        self.directory = tempfile.mkdtemp()
        return Threaded(SQLiteStore(Path(self.directory) / "keys.db", clock=self.clock))

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.directory)


_PROFILE = settings.get_profile("explore")
_IS_NIGHTLY = settings.default is not None and settings.default.max_examples >= _PROFILE.max_examples

Logs.TestCase.settings = settings(max_examples=500 if _IS_NIGHTLY else 40, stateful_step_count=30, deadline=None)
SQLiteLogs.TestCase.settings = settings(max_examples=100 if _IS_NIGHTLY else 8, stateful_step_count=30, deadline=None)
TestLogs = Logs.TestCase
TestSQLiteLogs = SQLiteLogs.TestCase
