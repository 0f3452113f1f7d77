from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest

from examples.gateway.faults import PAUSE
from examples.gateway.serve import Backend
from tests.waiting import LONGEST_WAIT

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "alice-3gram", "messages": [{"role": "user", "content": "Who stole the tarts?"}]}


@pytest.fixture
def sdk(work: Backend) -> Iterator[openai.OpenAI]:
    """The SDK as it comes, with nothing of flexmw."""
    with openai.OpenAI(base_url=f"{work.url}/v1", api_key="unused", timeout=LONGEST_WAIT) as client:
        yield client


def test_a_chat_is_the_same_in_one_piece_and_in_many(sdk: openai.OpenAI) -> None:
    whole = sdk.chat.completions.create(**ASK, seed=5, max_tokens=40)
    stream = sdk.chat.completions.create(
        **ASK, seed=5, max_tokens=40, stream=True, stream_options={"include_usage": True}
    )
    events = list(stream)
    pieces = [choice.delta.content or "" for event in events for choice in event.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert events[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert events[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens


def test_a_completion_streams_too(sdk: openai.OpenAI) -> None:
    ask = {"model": "alice-2gram", "prompt": "the Queen", "seed": 1, "max_tokens": 9, "extra_body": {"min_tokens": 9}}
    whole = sdk.completions.create(**ask)
    pieces = [event.choices[0].text for event in sdk.completions.create(**ask, stream=True)]
    assert "".join(pieces) == whole.choices[0].text
    assert whole.choices[0].finish_reason == "length"


def test_embeddings_are_equal_in_both_codings(sdk: openai.OpenAI) -> None:
    coded = sdk.embeddings.create(model="alice-embed", input=["Off with her head!"])  # the SDK asks for base64 itself
    plain = sdk.embeddings.create(model="alice-embed", input=["Off with her head!"], encoding_format="float")
    assert coded.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)


def test_what_is_spoken_can_be_transcribed(sdk: openai.OpenAI) -> None:
    sound = sdk.audio.speech.create(
        model="alice-speech", voice="alto", input="Curiouser and curiouser!", response_format="wav"
    )
    heard = sdk.audio.transcriptions.create(model="alice-transcribe", file=("speech.wav", io.BytesIO(sound.read())))
    assert heard.text == "Curiouser and curiouser!"


def test_a_sound_that_is_no_speech_of_ours_is_refused(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="hears only") as caught:
        sdk.audio.transcriptions.create(model="alice-transcribe", file=("noise.wav", io.BytesIO(b"RIFF")))
    assert caught.value.param == "file"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": "alice-embed"}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"seed": True}, "seed"),
        ({"stop": [""]}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"n": 2}, "n"),
        ({"messages": [{"role": "user", "content": "word " * 8_192}]}, "messages"),
    ],
)
def test_a_field_that_cannot_be_obeyed_is_named(
    work: Backend, change: dict[str, Any], param: str, http: httpx2.Client
) -> None:
    answer = http.post(work.url + CHAT, content=json.dumps(ASK | change))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert work.work() == {}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"n": NaN}', b'{"n": 1e999}', b'{"n": "\\ud800"}'])
def test_a_body_that_is_no_object_is_refused(work: Backend, body: bytes, http: httpx2.Client) -> None:
    answer = http.post(work.url + CHAT, content=body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    ("fault", "raised", "executions"),
    [
        ("reset", httpx2.ReadError, 0),
        ("lost", httpx2.RemoteProtocolError, 1),
        ("timeout", httpx2.ReadTimeout, 1),
        ("drop-mid-stream", httpx2.RemoteProtocolError, 1),
    ],
)
def test_a_fault_of_the_wire_is_exact(
    work: Backend, fault: str, raised: type[Exception], executions: int, http: httpx2.Client
) -> None:
    patience = 0.5 if fault == "timeout" else 5.0
    with pytest.raises(raised):
        http.post(work.url + CHAT, json=ASK, headers={"x-backend-fault": fault}, timeout=patience)
    assert work.work().get(CHAT, 0) == executions


@pytest.mark.parametrize(
    ("fault", "executions", "error"),
    [("500", 1, "server_error"), ("503", 0, "server_error"), ("429", 0, "rate_limit_error")],
)
def test_a_fault_of_the_server_has_its_response(
    work: Backend, fault: str, executions: int, error: str, http: httpx2.Client
) -> None:
    answer = http.post(work.url + CHAT, json=ASK, headers={"x-backend-fault": fault})
    assert (answer.status_code, answer.headers.get("retry-after")) == (int(fault), "1" if fault == "503" else None)
    assert answer.json()["error"]["type"] == error
    assert work.work().get(CHAT, 0) == executions


def test_a_bare_sdk_repeats_the_work_of_a_lost_response(work: Backend, sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.APIConnectionError):
        sdk.chat.completions.create(**ASK, extra_headers={"x-backend-fault": "lost"})
    assert work.work() == {CHAT: 3}


def test_a_stream_that_is_dropped_loses_its_end(work: Backend, sdk: openai.OpenAI) -> None:
    stream = sdk.chat.completions.create(**ASK, stream=True, extra_headers={"x-backend-fault": "drop-mid-stream"})
    with pytest.raises(openai.APIConnectionError):
        list(stream)
    assert work.work() == {CHAT: 1}


def test_a_fault_with_an_id_strikes_once(work: Backend, sdk: openai.OpenAI) -> None:
    headers = {"x-backend-fault": "lost; once=test_a_fault_with_an_id_strikes_once"}
    assert sdk.chat.completions.create(**ASK, extra_headers=headers).choices
    assert work.work() == {CHAT: 2}


def test_an_unknown_fault_lists_the_known_ones(work: Backend, http: httpx2.Client) -> None:
    answer = http.post(work.url + CHAT, json=ASK, headers={"x-backend-fault": "earthquake"})
    assert answer.status_code == 400
    assert "drop-mid-stream" in answer.json()["error"]["message"]


def test_a_slow_response_pauses_before_each_piece(sdk: openai.OpenAI) -> None:
    began = time.monotonic()
    stream = sdk.chat.completions.create(**ASK, stream=True, max_tokens=4, extra_headers={"x-backend-fault": "slow"})
    pieces = len(list(stream))
    assert time.monotonic() - began > PAUSE * pieces
