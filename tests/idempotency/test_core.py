"""The state machine as values, and as a machine against a model of what may be promised."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from flexmw.idempotency.core import (
    KeyedRequest,
    Record,
    Refuse,
    Replay,
    Run,
    StoredResponse,
    complete,
    decide,
    lapse,
    release,
)

ASK = KeyedRequest(key="k", fingerprint="f", now=100.0, what="POST /orders")
RUNNING = Record(phase="running", key="k", fingerprint="f", at=1.0)
KEPT = StoredResponse(status=201, headers=(("content-type", "text/plain"),), body=b"ok", size=2)


@pytest.mark.parametrize(
    ("held", "alive", "on_unknown", "expected"),
    [
        (RUNNING, True, "refuse", Refuse("in_progress")),
        (RUNNING, True, "run", Refuse("in_progress")),
        (RUNNING, False, "refuse", Refuse("unknown")),
        (lapse(RUNNING), False, "refuse", Refuse("unknown")),
        (lapse(RUNNING), True, "refuse", Refuse("unknown")),
        (complete(RUNNING, KEPT), False, "refuse", Replay(KEPT)),
        (complete(RUNNING, KEPT), False, "run", Replay(KEPT)),
        (replace(complete(RUNNING, KEPT), fingerprint="other"), False, "run", Refuse("reused")),
        (replace(RUNNING, fingerprint="other"), True, "refuse", Refuse("reused")),
        (replace(lapse(RUNNING), fingerprint="other"), False, "run", Refuse("reused")),
    ],
)
def test_a_held_key_is_decided_by_its_record_and_its_lease(
    held: Record, alive: bool, on_unknown: Any, expected: object
) -> None:
    assert decide(held, alive=alive, request=ASK, on_unknown=on_unknown) == expected


def test_a_free_key_is_claimed_for_the_first_attempt() -> None:
    decision = decide(None, alive=False, request=ASK)
    assert decision == Run(Record(phase="running", key="k", fingerprint="f", at=100.0, what="POST /orders"))


@pytest.mark.parametrize("held", [None, lapse(RUNNING), replace(RUNNING, phase="open", generation="old")])
def test_each_execution_has_a_generation_of_its_own(held: Record | None) -> None:
    decision = decide(held, alive=False, request=ASK, on_unknown="run", generation="new")
    assert isinstance(decision, Run)
    assert decision.record.generation == "new"


def test_a_record_of_a_worker_that_knows_no_generations_has_none() -> None:
    known = replace(RUNNING, generation="g")
    assert Record.decode(known.encode()) == known
    assert b"generation" not in RUNNING.encode()
    assert Record.decode(RUNNING.encode()).generation == ""


@pytest.mark.parametrize("held", [RUNNING, lapse(RUNNING)])
def test_an_unknown_execution_runs_again_with_its_steps_where_that_is_wanted(held: Record) -> None:
    decision = decide(replace(held, steps={"charge": 1}), alive=False, request=ASK, on_unknown="run")
    assert isinstance(decision, Run)
    assert (decision.record.attempt, decision.record.steps, decision.record.phase) == (2, {"charge": 1}, "running")


def test_a_released_key_is_forgotten_unless_it_has_steps() -> None:
    assert release(RUNNING) is None
    opened = release(replace(RUNNING, steps={"charge": 1}))
    assert opened is not None
    decision = decide(opened, alive=False, request=ASK)
    assert isinstance(decision, Run)
    assert (decision.record.attempt, decision.record.steps) == (2, {"charge": 1})


texts = st.text(max_size=20)
records = st.builds(
    Record,
    phase=st.sampled_from(["running", "done", "unknown", "open"]),
    key=texts,
    fingerprint=texts,
    at=st.floats(0, 1e10),
    attempt=st.integers(1, 99),
    what=texts,
    steps=st.dictionaries(texts, st.none() | st.booleans() | st.integers() | texts | st.lists(st.integers())),
    response=st.none()
    | st.builds(
        StoredResponse,
        status=st.integers(200, 599),
        headers=st.lists(st.tuples(texts, texts)).map(tuple),
        body=st.none() | st.binary(),
        size=st.integers(0, 10**9),
    ),
)


@settings(deadline=None)
@given(records)
def test_a_record_comes_back_from_its_bytes_as_it_was(record: Record) -> None:
    assert Record.decode(record.encode()) == record


@settings(deadline=None)
@given(records, records)
def test_the_bytes_of_a_record_hold_nothing_of_the_record_before_it(record: Record, other: Record) -> None:
    record.encode()
    done = complete(record, KEPT)
    again = replace(record, key=other.key, fingerprint=other.fingerprint, at=other.at, attempt=other.attempt + 1)
    assert Record.decode(done.encode()) == done
    assert Record.decode(again.encode()) == again


@given(st.binary())
def test_bytes_that_are_not_a_record_are_rejected(entry: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is json's own or ours, the class is what is promised
        Record.decode(entry)


@pytest.mark.parametrize("entry", [b"[]\n", b"{}\n", b'{"v":2}\n', b'{"v":3}\n', b'{"v":1}\n', b'{"v":2}'])
def test_json_that_is_not_a_record_is_rejected(entry: bytes) -> None:
    with pytest.raises(ValueError, match="not an idempotency record"):
        Record.decode(entry)


LEASE = 60.0


class OneKey(RuleBasedStateMachine):
    """Workers that claim one key, beat, finish, give up or vanish, while time passes. ``on_unknown="refuse"``.

    The model knows what really happened: ``begun`` and ``effects`` count how often work was started and may have had an
    effect. The promise: never a second effect, and what was answered stays answered.
    """

    live = Bundle("live")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.held: Record | None = None
        self.owner = 0
        self.lease_ends = 0.0
        self.effects = 0
        self.answers: set[bytes] = set()
        self.claims = 0

    def request(self, fingerprint: str = "f") -> Any:
        request = KeyedRequest(key="k", fingerprint=fingerprint, now=self.now)
        return decide(self.held, alive=self.lease_ends > self.now, request=request)

    @rule(target=live)
    def claim(self) -> Any:
        decision = self.request()
        if not isinstance(decision, Run):
            return 0
        assert self.effects == 0, "a key whose work may have had an effect was claimed again"
        self.claims += 1
        self.held, self.owner, self.lease_ends = decision.record, self.claims, self.now + LEASE
        self.effects += 1
        return self.claims

    @rule(worker=live)
    def beat(self, worker: int) -> None:
        if worker == self.owner and self.held is not None and self.held.phase == "running":
            self.lease_ends = self.now + LEASE

    @rule(worker=consumes(live))
    def finish(self, worker: int) -> None:
        if worker and worker == self.owner and self.held is not None and self.held.phase == "running":
            body = b"answer of %d" % worker
            self.held, self.lease_ends = complete(self.held, StoredResponse(status=200, body=body, size=len(body))), 0.0
            self.answers.add(body)

    @rule(worker=consumes(live))
    def be_refused(self, worker: int) -> None:
        """The app said that nothing was done (a 429)."""
        if worker and worker == self.owner and self.held is not None and self.held.phase == "running":
            self.held, self.lease_ends = release(self.held), 0.0
            self.effects -= 1

    @rule(worker=consumes(live))
    def vanish(self, worker: int) -> None:
        """SIGKILL: nothing is written."""

    @rule(worker=consumes(live))
    def be_cut_off(self, worker: int) -> None:
        """The server shuts down and has time to say so."""
        if worker and worker == self.owner and self.held is not None and self.held.phase == "running":
            self.held, self.lease_ends = lapse(self.held), 0.0

    @rule(seconds=st.floats(0.0, 3 * LEASE))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.held is not None)
    @rule()
    def another_request_uses_the_key(self) -> None:
        assert self.request("other") == Refuse("reused")

    @precondition(lambda self: self.answers)
    @rule()
    def a_retry_gets_the_one_answer(self) -> None:
        decision = self.request()
        assert isinstance(decision, Replay)
        assert decision.response.body in self.answers

    @invariant()
    def work_has_at_most_one_effect(self) -> None:
        assert self.effects in (0, 1)
        assert len(self.answers) <= 1

    @invariant()
    def no_key_is_wedged(self) -> None:
        """Whatever happened: once the lease is over, a retry is told something final, or runs."""
        request = KeyedRequest(key="k", fingerprint="f", now=self.now + LEASE)
        assert decide(self.held, alive=False, request=request) != Refuse("in_progress")


OneKey.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestOneKey = OneKey.TestCase
