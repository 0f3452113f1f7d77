"""Failed streams over real sockets, as the openai SDK sees them: never a truncated answer that looks whole."""

from __future__ import annotations

import httpx
import openai
import pytest

from tests.envelope.apps import CHUNK, SECRET
from tests.waiting import LONGEST_WAIT

SERVERS = [
    "fastapi-h11",
    "fastapi-httptools",
    "fastapi-hypercorn",
    "starlette-h11",
    "starlette-hypercorn",
    "fastapi-granian",
]


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest, urls: dict[str, str]) -> str:
    return urls[request.param]


@pytest.fixture(params=[name for name in SERVERS if name.startswith("fastapi")])
def fastapi_url(request: pytest.FixtureRequest, urls: dict[str, str]) -> str:
    return urls[request.param]


def chat(url: str, name: str) -> list[str | None]:
    """The pieces of a chat completion that the SDK reads before it ends or raises."""
    with openai.OpenAI(api_key="k", base_url=f"{url}/{name}", max_retries=0, timeout=10) as client:
        pieces: list[str | None] = []
        stream = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}], stream=True)
        try:
            for chunk in stream:
                pieces += [choice.delta.content for choice in chunk.choices]
        except openai.APIError as error:
            error.pieces = pieces  # type: ignore[attr-defined]
            raise
        return pieces


def test_an_error_in_the_middle_is_raised_by_the_chat_client(url: str) -> None:
    with pytest.raises(openai.APIError) as caught:
        chat(url, "mid-stream")
    assert type(caught.value) is openai.APIError
    assert (caught.value.type, caught.value.code) == ("server_error", "internal_error")
    assert caught.value.pieces == ["Hi"]  # type: ignore[attr-defined]
    assert SECRET not in str(caught.value)


def test_an_error_in_the_middle_is_raised_by_the_responses_client(url: str) -> None:
    with (
        openai.OpenAI(api_key="k", base_url=f"{url}/mid-stream", max_retries=0, timeout=10) as client,
        pytest.raises(openai.APIError) as caught,
    ):
        for _ in client.responses.create(model="m", input="?", stream=True):
            pass
    assert (caught.value.type, caught.value.code) == ("server_error", "internal_error")


def test_an_error_before_the_first_event_has_its_own_status_and_headers(url: str) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        chat(url, "before-first")
    assert caught.value.response.headers["retry-after"] == "11"
    assert "Too busy to begin." in caught.value.message
    assert caught.value.request_id is not None


def test_half_an_event_is_dropped_before_the_error(url: str) -> None:
    with pytest.raises(openai.APIError) as caught:
        chat(url, "half-event")
    assert caught.value.code == "upstream_timeout"


def test_nothing_follows_done(url: str) -> None:
    assert chat(url, "after-done") == ["Hi"]
    answer = httpx.post(f"{url}/after-done/chat/completions", timeout=LONGEST_WAIT)
    assert answer.content == CHUNK + b"data: [DONE]\n\n"


def test_a_healthy_stream_is_not_changed(url: str) -> None:
    answer = httpx.post(f"{url}/healthy/chat/completions", timeout=LONGEST_WAIT)
    assert answer.content == CHUNK + CHUNK + b"data: [DONE]\n\n"
    assert answer.headers["content-type"].startswith("text/event-stream")


def test_newline_delimited_json_is_cut_and_never_ended(url: str) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{url}/ndjson/chat/completions", timeout=LONGEST_WAIT)


@pytest.mark.parametrize("path", ["chunked-crash", "length-crash"])
def test_a_plain_body_is_cut_and_never_ended(url: str, path: str) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{url}/{path}", timeout=LONGEST_WAIT)


def test_fastapis_own_event_stream_raises_instead_of_ending_well(fastapi_url: str) -> None:
    with pytest.raises(openai.APIError) as caught:
        chat(fastapi_url, "native")
    assert caught.value.code == "internal_error"
    assert caught.value.pieces == ["Hi"]  # type: ignore[attr-defined]


def test_fastapis_own_event_stream_has_the_status_of_an_early_error(fastapi_url: str) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        chat(fastapi_url, "native-first")
    assert caught.value.response.headers["retry-after"] == "11"


def test_fastapis_own_event_stream_ends_well_when_it_does(fastapi_url: str) -> None:
    assert chat(fastapi_url, "native-good") == ["Hi"]
