"""Which call a retry belongs to."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given, settings

from flexmw.idempotency.sdk import MOST_CALLS, SdkCall, decode, encode, mark, match, may_be_late, prune, taken

WINDOW = 60.0
calls = st.lists(
    st.builds(
        SdkCall,
        id=st.uuids().map(str),
        count=st.integers(0, 5),
        at=st.floats(0, 200),
        sent=st.booleans(),
        refused=st.booleans(),
    ),
    max_size=100,
    unique_by=lambda call: call.id,
).map(tuple)


@settings(deadline=None, max_examples=40)
@given(calls, st.floats(0, 300))
def test_a_first_attempt_is_always_a_call_of_its_own(known: tuple[SdkCall, ...], now: float) -> None:
    assert match(known, count=0, now=now, window=WINDOW) is None


@settings(deadline=None, max_examples=40)
@given(calls, st.integers(1, 6), st.floats(0, 300))
def test_a_retry_takes_up_a_call_with_a_lower_count_inside_the_window(
    known: tuple[SdkCall, ...], count: int, now: float
) -> None:
    found = match(known, count=count, now=now, window=WINDOW)
    possible = [call for call in known if call.count < count and now - call.at <= WINDOW]
    assert (found is None) is (not possible)
    if found is not None:
        assert found in possible
        assert found.refused or not any(call.refused for call in possible)
        assert found.refused or not found.sent or all(call.sent for call in possible)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 8), st.integers(1, 3))
def test_equal_calls_that_all_retry_each_keep_a_call_of_their_own(number: int, retries: int) -> None:
    known = tuple(SdkCall(id=str(each), count=0, at=float(each)) for each in range(number))
    for count in range(1, retries + 1):
        met = []
        for _ in range(number):
            found = match(known, count=count, now=20.0, window=WINDOW)
            assert found is not None
            met.append(found.id)
            known = taken(known, found, count=count, now=20.0)
        assert len(set(met)) == number
    assert match(known, count=retries, now=20.0, window=WINDOW) is None


@settings(deadline=None, max_examples=40)
@given(calls, st.floats(0, 300))
def test_the_list_stays_bounded_and_keeps_the_calls_without_a_response(known: tuple[SdkCall, ...], now: float) -> None:
    left = prune(known, now=now, window=WINDOW)
    fresh = [call for call in known if abs(now - call.at) <= WINDOW]
    assert len(left) == min(len(fresh), MOST_CALLS - 1)
    dropped = set(fresh) - set(left)
    if any(not call.sent for call in dropped):
        assert not any(call.sent for call in left)


def test_marking_a_call_says_how_it_went() -> None:
    known = (SdkCall(id="a", count=0, at=0.0), SdkCall(id="b", count=0, at=0.0))
    assert mark(known, "b", refused=False)[1].sent
    assert mark(known, "b", refused=True)[1] == SdkCall(id="b", count=0, at=0.0, refused=True)
    assert mark(known, "b", refused=True)[0] == known[0]


def test_only_an_attempt_below_one_that_was_seen_can_be_late() -> None:
    known = (SdkCall(id="a", count=0, at=0.0), SdkCall(id="b", count=2, at=0.0))
    assert [may_be_late(known, count=count) for count in range(4)] == [True, True, False, False]
    assert not may_be_late((), count=0)


@settings(deadline=None, max_examples=40)
@given(calls)
def test_the_list_comes_back_from_its_bytes(known: tuple[SdkCall, ...]) -> None:
    assert decode(encode(known)) == known


def test_of_too_many_calls_the_oldest_one_with_a_response_is_forgotten_first() -> None:
    known = tuple(SdkCall(id=str(each), count=0, at=float(each), sent=each in (5, 9)) for each in range(MOST_CALLS + 2))
    left = {call.id for call in prune(known, now=MOST_CALLS + 2.0, window=1e3)}
    assert {call.id for call in known} - left == {"5", "9", "0"}


def test_a_call_from_before_a_reboot_is_no_later_than_those_after_it() -> None:
    """The monotonic clock of a machine begins anew: a retry repeated that call, which may be executed a second time."""
    before = SdkCall(id="before", count=0, at=1e6, sent=True)
    assert match((before,), count=1, now=30.0, window=WINDOW) == before  # its retry, as far as anybody can know
    known = (*prune((before,), now=60.0, window=WINDOW), SdkCall(id="after", count=0, at=60.0, sent=True))
    found = match(known, count=1, now=90.0, window=WINDOW)
    assert found is not None
    assert found.id == "after"
