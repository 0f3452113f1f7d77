"""The gateway with a second backend: who executes a call, and what each caller is billed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from examples.gateway.accounts import DOLLAR
from examples.gateway.serve import Backend, Running, backend, gateway
from tests.examples.conftest import Caller

ASK: dict[str, Any] = {"model": "alice-3gram", "messages": [{"role": "user", "content": "Who stole the tarts?"}]}
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def second() -> Iterator[Backend]:
    with backend() as running:
        yield running


@pytest.fixture
def pair(work: Backend, second: Backend) -> Iterator[Running]:
    """A gateway of its own for each test: a backend that has refused is not asked for a while."""
    second.forget()
    with gateway(work.url, second.url, timeout=5.0) as running:
        yield running


def billed(running: Running, account: str) -> tuple[int, int]:
    """Calls and millionths of a dollar of an account."""
    seen = running.admin.account(account)
    assert seen["balance"] + seen["spent"] == DOLLAR
    return seen["calls"], seen["spent"]


@pytest.mark.parametrize("fault", ["503", "429"])
def test_the_second_backend_does_what_the_first_refuses(
    pair: Running, work: Backend, second: Backend, fault: str, colour: str
) -> None:
    key, account = pair.admin.create_key()
    call = Caller(colour, pair.url, key)
    answer = call(lambda sdk: sdk.chat.completions.create(**ASK), default_headers={"x-backend-fault": fault})
    assert (work.work(), second.work()) == ({}, {CHAT: 1})
    usage = answer.usage
    assert billed(pair, account) == (1, 3 * usage.prompt_tokens + 9 * usage.completion_tokens)


def test_a_stream_of_the_second_backend_is_billed_by_its_usage(pair: Running, work: Backend, second: Backend) -> None:
    key, account = pair.admin.create_key()
    call = Caller("sync", pair.url, key)
    ask = {**ASK, "stream": True, "stream_options": {"include_usage": True}}
    headers = {"x-backend-fault": "503"}
    *_, last = call(lambda sdk: list(sdk.chat.completions.create(**ask)), default_headers=headers)
    assert (work.work(), second.work()) == ({}, {CHAT: 1})
    assert billed(pair, account) == (1, 3 * last.usage.prompt_tokens + 9 * last.usage.completion_tokens)


@pytest.mark.parametrize("fault", ["lost", "500"])
def test_nobody_else_does_what_the_first_may_have_done(
    pair: Running, work: Backend, second: Backend, fault: str
) -> None:
    key, account = pair.admin.create_key()
    error = Caller("sync", pair.url, key).error(
        lambda sdk: sdk.chat.completions.create(**ASK), default_headers={"x-backend-fault": fault}
    )
    assert isinstance(error, openai.InternalServerError)
    assert error.response.headers["x-should-retry"] == "false"
    assert (work.work(), second.work()) == ({CHAT: 1}, {})
    assert billed(pair, account) == (0, 0)


def test_a_used_up_account_gets_402_and_its_neighbour_does_not(pair: Running, second: Backend) -> None:
    poor, account = pair.admin.create_key(credit=1)
    rich, _ = pair.admin.create_key()
    ask = lambda sdk: sdk.chat.completions.create(**ASK)  # noqa: E731
    Caller("sync", pair.url, poor)(ask)
    error = Caller("sync", pair.url, poor).error(ask)
    assert (error.status_code, error.type, error.code) == (402, "insufficient_quota", "402")
    assert "retry-after" not in error.response.headers
    Caller("sync", pair.url, rich)(ask)
    pair.admin.top_up(account, DOLLAR)
    Caller("sync", pair.url, poor)(ask)


def test_a_video_is_polled_where_it_was_begun(pair: Running, work: Backend, second: Backend) -> None:
    key, _ = pair.admin.create_key()
    ask = {"model": "alice-video", "prompt": "the sea", "seconds": 1}
    headers = {"x-backend-fault": "503; once=film"}
    call = Caller("sync", pair.url, key)
    job = call(lambda sdk: sdk.post("/videos/generations", cast_to=object, body=ask), default_headers=headers)
    seen = call(lambda sdk: sdk.get(f"/videos/generations/{job['id']}", cast_to=object))
    assert seen["id"] == job["id"]
    assert second.work() == {}
