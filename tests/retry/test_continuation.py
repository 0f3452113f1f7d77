"""What a response to a continuation means: pure."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmw.contract.idempotent_stream import StreamPosition
from flexmw.retry.continuation import (
    LOSSES,
    code_of,
    from_an_event,
    judge_position,
    judge_refusal,
    preferred_wait,
    step_delay,
)

GENERATION = "0f8fad5bd9cb469fa165"
DIGEST = sha256(b"abc").digest()
OTHER = sha256(b"abd").digest()


@pytest.mark.parametrize(
    ("position", "asked_for", "verdict"),
    [
        (StreamPosition(GENERATION, 3, DIGEST), GENERATION, "continues"),
        (StreamPosition(GENERATION, 3, OTHER), GENERATION, "stream_differs"),
        (StreamPosition(GENERATION, 4, DIGEST), GENERATION, "stream_differs"),
        (StreamPosition(GENERATION, 3, None), GENERATION, "stream_differs"),
        (StreamPosition("x" * 16, 3, DIGEST), GENERATION, "stream_changed"),
        (StreamPosition(GENERATION), GENERATION, "replays"),
        (StreamPosition(GENERATION), None, "replays"),
        (None, GENERATION, "replays"),
        (None, None, "replays"),
    ],
)
def test_only_the_rest_of_the_same_response_continues_it(position: Any, asked_for: Any, verdict: str) -> None:
    assert judge_position(position, generation=asked_for, start=3, digest=DIGEST) == verdict


def test_a_code_of_a_refusal_counts_whatever_the_status_and_the_wait() -> None:
    for code, loss in LOSSES.items():
        assert judge_refusal(409, code=code, names_wait=True, asked=True) == loss
        assert judge_refusal(503, code=code) == loss


@pytest.mark.parametrize(
    ("status", "options", "verdict"),
    [
        (409, {"names_wait": True}, "come_back"),
        (409, {}, "stream_lost"),
        (429, {}, "come_back"),
        (502, {}, "come_back"),
        (504, {}, "come_back"),
        (503, {"asked": False}, "stream_lost"),
        (503, {"asked": True}, "come_back"),
        (410, {}, "stream_gone"),
        (404, {}, "stream_lost"),
        (500, {"names_wait": True}, "stream_lost"),
    ],
)
def test_a_refusal_without_a_known_code_is_judged_by_its_status(status: int, options: Any, verdict: str) -> None:
    assert judge_refusal(status, code="of_another_server", **options) == verdict
    assert judge_refusal(status, code=None, **options) == verdict


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error": {"code": "idempotency_unknown"}}', "idempotency_unknown"),
        (b'{"error": {"code": 7}}', None),
        (b'{"error": "no"}', None),
        (b'["error"]', None),
        (b"<html>", None),
        (b"[" * 100_000, None),
        (b"", None),
    ],
)
def test_the_code_of_an_error_body_is_read_where_there_is_one(body: bytes, code: str | None) -> None:
    assert code_of(body) == code


@given(st.integers(0, 1000), st.floats(0, 1))
def test_delays_grow_to_eight_seconds(tries: int, chance: float) -> None:
    assert 0.0 <= step_delay(tries, chance) <= 8.0
    assert step_delay(tries, 1.0) <= step_delay(tries + 1, 1.0)


@pytest.mark.parametrize(("seconds", "wait"), [(1e9, 10), (20.0, 10), (5.0, 4), (1.0, 0), (-3.0, -2)])
def test_a_server_is_asked_to_wait_for_less_than_this_side_waits(seconds: float, wait: int) -> None:
    assert preferred_wait(seconds) == wait


@pytest.mark.parametrize(
    ("tail", "rest"),
    [
        (b"a\n\ndata: 1\n\n", b"data: 1\n\n"),
        (b"a\r\n\r\ndata: 1", b"data: 1"),
        (b"a\r\rdata: 1", b"data: 1"),
        (b"data: [DONE]\n\n", b""),
        (b"data: 1\r\n", b""),
        (b"", b""),
    ],
)
def test_what_follows_a_blank_line_begins_where_an_event_begins(tail: bytes, rest: bytes) -> None:
    assert from_an_event(tail) == rest
