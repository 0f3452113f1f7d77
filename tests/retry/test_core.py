"""The decision table, cell by cell, and the pure functions around it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmw.retry.core import (
    SAFE_METHODS,
    TABLE,
    Event,
    RetryDecision,
    Safety,
    backoff,
    judge,
    of_error,
    of_status,
    shrink,
    unprocessed,
)

SAFE, KEY, OPT_IN, NONE = get_args(Safety)

CELLS: list[tuple[Event, bool | None, dict[str, bool]]] = [
    # event, x-should-retry, and whether it is tried again under each safety
    ("unsent", None, {SAFE: True, KEY: True, OPT_IN: True, NONE: True}),
    ("refused", None, {SAFE: True, KEY: True, OPT_IN: True, NONE: True}),
    ("ambiguous", None, {SAFE: True, KEY: True, OPT_IN: True, NONE: False}),
    ("conflict", None, {SAFE: False, KEY: True, OPT_IN: True, NONE: False}),
    ("answered", None, {SAFE: False, KEY: False, OPT_IN: False, NONE: False}),
    ("refused", True, {SAFE: True, KEY: True, OPT_IN: True, NONE: True}),
    ("ambiguous", True, {SAFE: True, KEY: True, OPT_IN: True, NONE: False}),
    ("answered", True, {SAFE: True, KEY: True, OPT_IN: True, NONE: False}),
    ("refused", False, {SAFE: False, KEY: False, OPT_IN: False, NONE: False}),
    ("ambiguous", False, {SAFE: False, KEY: False, OPT_IN: False, NONE: False}),
    ("conflict", False, {SAFE: False, KEY: False, OPT_IN: False, NONE: False}),
]


@pytest.mark.parametrize(
    ("event", "asked", "safety", "again"),
    [(event, asked, safety, again) for event, asked, row in CELLS for safety, again in row.items()],
)
def test_every_cell_of_the_table(event: Event, asked: bool | None, safety: Safety, again: bool) -> None:
    assert judge(event, safety, asked=asked).retry is again


@pytest.mark.parametrize(
    ("event", "asked", "row", "outcome"),
    [
        ("unsent", None, "unsent", "unsent"),
        ("refused", True, "refused", "refused"),
        ("refused", False, "told_not_to", "refused"),
        ("ambiguous", True, "asked", "ambiguous"),
        ("ambiguous", False, "told_not_to", "ambiguous"),
        ("conflict", None, "conflict", "answered"),
        ("answered", True, "asked", "answered"),
    ],
)
def test_the_verdict_names_the_row_and_keeps_the_outcome(
    event: Event, asked: bool | None, row: str, outcome: str
) -> None:
    decision = judge(event, "none", asked=asked)
    assert (decision.row, decision.outcome) == (row, outcome)


@given(st.sampled_from(get_args(Event)), st.sampled_from([None, True, False]))
def test_whatever_is_ambiguous_is_never_sent_twice_without_a_licence(event: Event, asked: bool | None) -> None:
    decision = judge(event, "none", asked=asked)
    assert not (decision.retry and decision.outcome in ("ambiguous", "answered"))


def test_a_licence_never_makes_a_row_stricter_except_for_a_conflict() -> None:
    for row, licences in TABLE.items():
        if "none" in licences:
            assert licences == set(get_args(Safety)), row


@pytest.mark.parametrize(
    ("status", "retry_after", "asked", "event"),
    [
        (200, False, None, "answered"),
        (204, True, True, "answered"),
        (302, False, None, "answered"),
        (400, False, None, "answered"),
        (401, True, None, "answered"),
        (402, False, None, "answered"),
        (403, False, None, "answered"),
        (404, True, None, "answered"),
        (408, False, None, "ambiguous"),
        (408, True, None, "ambiguous"),
        (409, False, None, "answered"),
        (409, True, None, "conflict"),
        (422, True, None, "answered"),
        (425, False, None, "refused"),
        (429, False, None, "refused"),
        (429, True, None, "refused"),
        (500, True, None, "ambiguous"),
        (500, False, True, "ambiguous"),
        (501, True, None, "answered"),
        (502, True, None, "ambiguous"),
        (503, False, None, "ambiguous"),
        (503, True, None, "refused"),
        (503, False, True, "refused"),
        (503, False, False, "ambiguous"),
        (504, True, None, "ambiguous"),
        (505, True, None, "answered"),
        (507, True, None, "ambiguous"),
        (520, False, None, "ambiguous"),
        (524, True, None, "ambiguous"),
        (529, False, None, "ambiguous"),
        (529, True, None, "refused"),
        (529, False, True, "refused"),
        (530, False, None, "ambiguous"),
        (599, True, None, "ambiguous"),
    ],
)
def test_what_a_status_means(status: int, retry_after: bool, asked: bool | None, event: Event) -> None:
    assert of_status(status, retry_after=retry_after, asked=asked) == event


@pytest.mark.parametrize(
    ("classes", "sent", "refused", "event"),
    [
        ({"ConnectError", "NetworkError"}, None, False, "ambiguous"),
        ({"ConnectTimeout"}, None, False, "ambiguous"),
        ({"PoolTimeout"}, None, False, "unsent"),
        ({"ProxyError"}, None, False, "ambiguous"),
        ({"ProxyError"}, False, False, "unsent"),
        ({"ReadTimeout"}, None, False, "ambiguous"),
        ({"ReadTimeout"}, False, False, "unsent"),
        ({"ConnectError"}, True, False, "ambiguous"),
        ({"RemoteProtocolError"}, True, True, "unsent"),
        ({"RemoteProtocolError"}, True, False, "ambiguous"),
    ],
)
def test_what_a_transport_error_means(classes: set[str], sent: bool | None, refused: bool, event: Event) -> None:
    assert of_error(frozenset(classes), sent=sent, refused=refused) == event


def test_a_cause_can_prove_what_the_class_of_an_error_cannot() -> None:
    assert of_error(frozenset({"ConnectError"}), sent=None, proven=True) == "unsent"
    assert of_error(frozenset({"ConnectError"}), sent=True, proven=True) == "ambiguous"


def test_a_lost_response_is_ambiguous_unless_the_server_says_that_it_did_not_process_the_request() -> None:
    assert of_error(frozenset({"ReadTimeout"}), sent=True) == "ambiguous"


@pytest.mark.parametrize(
    ("detail", "stream", "proof"),
    [
        (SimpleNamespace(stream_id=1, error_code=7), 1, True),
        (SimpleNamespace(stream_id=1, error_code=2), 1, False),
        (SimpleNamespace(error_code=7), 1, False),
        (SimpleNamespace(error_code=0, last_stream_id=0), 1, True),
        (SimpleNamespace(error_code=0, last_stream_id=1), 1, False),
        (SimpleNamespace(error_code=0, last_stream_id=1), 3, True),
        (SimpleNamespace(error_code=0, last_stream_id=0), None, False),
        ("a message", 1, False),
        (7, 1, False),
    ],
)
def test_what_proves_that_an_http2_stream_was_not_processed(detail: object, stream: int | None, proof: bool) -> None:
    assert unprocessed(detail, stream) is proof


def test_methods_are_safe_by_the_standard_and_no_others() -> None:
    assert {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"} <= SAFE_METHODS
    assert SAFE_METHODS.isdisjoint({"POST", "PATCH", "CONNECT", "get"})


@given(st.integers(1, 200), st.floats(0, 1))
def test_backoff_grows_within_its_bounds(attempt: int, chance: float) -> None:
    step = min(8.0, 0.5 * 2.0 ** min(attempt - 1, 10))
    assert step * 0.1 <= backoff(attempt, chance) <= step


def test_backoff_is_a_number_however_often_one_has_tried() -> None:
    assert backoff(100_000, 1.0) == 8.0


def test_backoff_uses_the_whole_width() -> None:
    assert [backoff(1, 0.0), backoff(1, 1.0), backoff(2, 1.0), backoff(9, 1.0)] == [0.05, 0.5, 1.0, 8.0]


timeouts = st.dictionaries(
    st.sampled_from(["connect", "read", "write", "pool"]), st.one_of(st.none(), st.floats(0.01, 600))
)


@given(timeouts, st.floats(-10, 600))
def test_no_phase_may_take_longer_than_what_is_left(timeout: dict[str, Any], remaining: float) -> None:
    shrunk = shrink(timeout, remaining)
    assert set(shrunk) == {"connect", "read", "write", "pool"}
    for phase, value in shrunk.items():
        own = timeout.get(phase)
        assert value is not None
        assert value <= max(0.001, remaining)
        assert value == (max(0.001, remaining) if own is None else min(own, max(0.001, remaining)))


def test_verdicts_are_values() -> None:
    assert judge("unsent", "none") == RetryDecision(True, "unsent", "unsent")
