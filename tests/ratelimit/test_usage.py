"""What responses report of their usage, in each format, whatever the chunks; and what requests are expected to use."""

from __future__ import annotations

import json
import zlib
from base64 import b64encode
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmw.errors import ConfigError
from flexmw.ratelimit import Usage, UsageReader
from flexmw.ratelimit.aws_frames import MAX_FRAME_BYTES
from flexmw.ratelimit.usage_body import MAX_EVENT_BYTES, MAX_JSON_BYTES, TAIL_BYTES, body_of
from flexmw.ratelimit.usage_estimate import DEFAULT_OUTPUT_TOKENS, fields_of
from flexmw.ratelimit.usage_formats import FORMATS
from flexmw.ratelimit.usage_readers import load_reader

OPENAI, ANTHROPIC = FORMATS["openai"], FORMATS["anthropic"]
GOOGLE, COHERE, BEDROCK = FORMATS["google"], FORMATS["cohere"], FORMATS["bedrock"]
FRAMES = "application/vnd.amazon.eventstream"
USED = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


def events(*values: Any, end: str = "\n") -> bytes:
    return "".join(
        f"data: {value if isinstance(value, str) else json.dumps(value)}{end}{end}" for value in values
    ).encode()


def chunk(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-x", "choices": [{"delta": {"content": text}}], **more}


WITH_USAGE = events(chunk(""), chunk("Hé"), chunk("llo"), {"model": "gpt-x", "choices": [], "usage": USED}, "[DONE]")
WITHOUT = events(chunk(""), chunk("Hel"), chunk("lo"), "[DONE]")
EACH = events(*(chunk("x", usage={"prompt_tokens": 7, "completion_tokens": number}) for number in (1, 2, 3)), "[DONE]")
GROQ = events(chunk("x"), chunk("", x_groq={"id": "r", "usage": USED}), "[DONE]")
RESPONSES = events(
    {"type": "response.created", "response": {"model": "gpt-x", "usage": None}},
    {"type": "response.output_text.delta", "delta": "Hello"},
    {
        "type": "response.completed",
        "response": {
            "model": "gpt-x",
            "output": [{"content": [{"text": "Hello"}]}],
            "usage": {"input_tokens": 7, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 3}},
        },
    },
)
MESSAGES = events(
    {"type": "message_start", "message": {"model": "claude", "usage": {"input_tokens": 7, "output_tokens": 1}}},
    {"type": "ping"},
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hello"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
    {"type": "message_stop"},
)


def part(text: str, **counts: int) -> dict[str, Any]:
    """One part of a stream of Gemini."""
    content = {"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}}]}
    return {**content, "usageMetadata": counts, "modelVersion": "gemini-x"}


GEMINI = (
    part("Hel", promptTokenCount=7, totalTokenCount=7),
    part("lo", promptTokenCount=7, candidatesTokenCount=3, thoughtsTokenCount=2, totalTokenCount=12),
)
COHERES = events(
    {"type": "message-start", "id": "1"},
    {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hello"}}}},
    {
        "type": "message-end",
        "delta": {
            "finish_reason": "COMPLETE",
            "usage": {
                "billed_units": {"input_tokens": 1, "output_tokens": 5},
                "tokens": {"input_tokens": 7, "output_tokens": 5},
                "cached_tokens": 2,
            },
        },
    },
)


def frame(kind: str, value: Any) -> bytes:
    """One frame of an event stream of AWS, with its checksums."""
    name, payload = b":event-type", json.dumps(value).encode()
    header = bytes([len(name)]) + name + b"\x07" + len(kind).to_bytes(2, "big") + kind.encode()
    prelude = (16 + len(header) + len(payload)).to_bytes(4, "big") + len(header).to_bytes(4, "big")
    data = prelude + zlib.crc32(prelude).to_bytes(4, "big") + header + payload
    return data + zlib.crc32(data).to_bytes(4, "big")


CONVERSED = (
    frame("messageStart", {"role": "assistant"}),
    frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hello"}, "p": "abc"}),
    frame("messageStop", {"stopReason": "end_turn"}),
    frame("metadata", {"usage": {"inputTokens": 7, "outputTokens": 5, "totalTokens": 12}, "metrics": {"latencyMs": 9}}),
)


def read(
    data: bytes, reader: UsageReader = OPENAI, media_type: str = "text/event-stream", *cuts: int
) -> tuple[Any, int]:
    body = body_of(media_type, reader)
    assert body is not None
    places = [0, *sorted(cuts), len(data)]
    for start, end in pairwise(places):
        body.add(data[start:end])
    usage = body.finish()
    return usage and (usage.input_tokens, usage.output_tokens, usage.total_tokens, usage.model), body.outputs


@pytest.mark.parametrize(
    ("data", "reader", "expected"),
    [
        (WITH_USAGE, OPENAI, ((7, 5, 12, "gpt-x"), 0)),
        (WITHOUT, OPENAI, (None, 2)),
        (EACH, OPENAI, ((7, 3, 10, "gpt-x"), 0)),
        (GROQ, OPENAI, ((7, 5, 12, "gpt-x"), 0)),
        (RESPONSES, OPENAI, ((7, 5, 12, "gpt-x"), 0)),
        (MESSAGES, ANTHROPIC, ((7, 5, 12, "claude"), 0)),
        (MESSAGES[: MESSAGES.index(b"message_delta") - 20], ANTHROPIC, ((7, 1, 8, "claude"), 1)),
        (events(*GEMINI), GOOGLE, ((7, 5, 12, "gemini-x"), 0)),
        (events(GEMINI[0], {"candidates": GEMINI[1]["candidates"]}), GOOGLE, ((7, 0, 7, "gemini-x"), 1)),
        (COHERES, COHERE, ((7, 5, 12, ""), 0)),
        (COHERES[: COHERES.index(b"message-end") - 20], COHERE, (None, 1)),
        (WITH_USAGE.replace(b"\n", b"\r\n"), OPENAI, ((7, 5, 12, "gpt-x"), 0)),
        (WITH_USAGE.replace(b"\n", b"\r"), OPENAI, ((7, 5, 12, "gpt-x"), 0)),
        (b': hello\nevent: x\nid: 1\ndata: {\ndata: "usage":\ndata: {"total_tokens":3}}\n', OPENAI, ((0, 0, 3, ""), 0)),
        (b'data: {"usage": {"total_tokens": true}}\n\ndata: nonsense "usage"\n\n', OPENAI, (None, 0)),
        (b"", OPENAI, (None, 0)),
    ],
    ids=[
        "last",
        "none",
        "each",
        "groq",
        "responses",
        "anthropic",
        "cut",
        "google",
        "google-cut",
        "cohere",
        "cohere-cut",
        "crlf",
        "cr",
        "lines",
        "bad",
        "empty",
    ],
)
def test_a_stream_reports_its_usage_in_each_format(data: bytes, reader: UsageReader, expected: Any) -> None:
    assert read(data, reader) == expected


@given(
    stream=st.sampled_from([WITH_USAGE, WITHOUT, EACH, RESPONSES, WITH_USAGE.replace(b"\n", b"\r\n")]),
    cuts=st.lists(st.integers(0, len(RESPONSES)), max_size=30),
)
def test_the_usage_does_not_depend_on_where_a_stream_is_split(stream: bytes, cuts: list[int]) -> None:
    cuts = [min(cut, len(stream)) for cut in cuts]
    assert read(stream, OPENAI, "text/event-stream", *cuts) == read(stream)


def test_a_stream_may_come_byte_by_byte() -> None:
    for stream, reader in ((WITH_USAGE, OPENAI), (MESSAGES, ANTHROPIC)):
        assert read(stream, reader, "text/event-stream", *range(len(stream))) == read(stream, reader)


@given(cuts=st.lists(st.integers(0, MAX_EVENT_BYTES + 60_000), max_size=6))
def test_of_a_very_long_event_the_end_is_read_and_little_is_kept(cuts: list[int]) -> None:
    response = {"model": "gpt-x", "output": "x" * (MAX_EVENT_BYTES + 50_000), "usage": USED}
    stream = events({"type": "response.completed", "response": response}, chunk("y"))
    body: Any = body_of("text/event-stream", OPENAI)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(stream)], strict=True):
        body.add(stream[start:end])
        assert len(body._data._data) <= MAX_EVENT_BYTES + 2 * TAIL_BYTES
    assert (body.finish().total_tokens, body.outputs) == (12, 1)


@pytest.mark.parametrize("size", [10, MAX_JSON_BYTES + 1, 10 * MAX_JSON_BYTES])
def test_a_json_body_reports_its_usage_however_long_it_is(size: int) -> None:
    body = json.dumps(
        {"object": "list", "data": '\\"usage": {' * (size // 10), "model": "embed", "usage": {"prompt_tokens": 9}}
    )
    assert read(body.encode(), OPENAI, "application/json", 5, size // 2) == ((9, 0, 9, "embed"), 0)


@given(cuts=st.lists(st.integers(0, len(b"".join(CONVERSED))), max_size=12))
def test_a_stream_of_bedrock_is_read_wherever_it_is_split(cuts: list[int]) -> None:
    assert read(b"".join(CONVERSED), BEDROCK, FRAMES, *cuts) == ((7, 5, 12, ""), 0)
    assert read(b"".join(CONVERSED[:3]), BEDROCK, FRAMES) == (None, 1)


def test_a_model_of_bedrock_may_send_its_own_events() -> None:
    own = [json.loads(line[6:]) for line in MESSAGES.decode().split("\n\n") if line]
    frames = [frame("chunk", {"bytes": b64encode(json.dumps(event).encode()).decode()}) for event in own]
    assert read(b"".join(frames), ANTHROPIC, FRAMES) == ((7, 5, 12, "claude"), 0)


def test_a_frame_that_is_too_long_is_skipped_and_counted() -> None:
    frames = [frame("contentBlockDelta", {"delta": {"text": "x" * MAX_FRAME_BYTES}}), CONVERSED[1]]
    assert read(b"".join(frames), BEDROCK, FRAMES, 5, 70_000) == (None, 2)
    assert read(b"".join([*frames, CONVERSED[3]]), BEDROCK, FRAMES, 70_000)[0] == (7, 5, 12, "")


def test_another_format_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"no frame of application/vnd\.amazon\.eventstream"):
        read(b"\0\0\0\x10\0\0\0\x7f" + bytes(20), BEDROCK, FRAMES)


def test_a_body_of_bedrock_reports_its_cached_input() -> None:
    report = {
        "inputTokens": 4,
        "outputTokens": 337,
        "totalTokens": 11800,
        "cacheReadInputTokens": 11000,
        "cacheWriteInputTokens": 459,
    }
    usage = BEDROCK.read({"output": {}, "usage": report}, None)
    assert usage is not None
    assert (usage.input_tokens, usage.cached_tokens, usage.total_tokens) == (11463, 11000, 11800)
    asked = {"messages": [{"role": "user", "content": [{"text": "x" * 40}]}], "inferenceConfig": {"maxTokens": 30}}
    assert estimated(asked, "/model/claude-x/converse-stream", BEDROCK) == (14, 30, "claude-x")


def test_a_stream_of_gemini_may_be_one_json_array() -> None:
    assert read(json.dumps(GEMINI).encode(), GOOGLE, "application/json; charset=UTF-8")[0] == (7, 5, 12, "gemini-x")


LONG = "x" * MAX_JSON_BYTES


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"model": "embed", "usage": {"prompt_tokens": 9}, "data": LONG}, (9, 0, 9, "embed")),  # llama.cpp
        (
            {"output": LONG, "model": "gpt-x", "usage": USED, "metadata": {"usage": "0", "model": 1}},
            (7, 5, 12, "gpt-x"),
        ),
        ({"usage": {"completion_tokens": 1, "note": LONG}}, None),  # cut off amid the usage
    ],
    ids=["in-front", "echoed", "cut-off"],
)
def test_usage_anywhere_at_an_end_of_a_long_body_is_read(body: Any, expected: Any) -> None:
    assert read(json.dumps(body).encode(), OPENAI, "application/json", 9, 70_000)[0] == expected


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"usage": {"prompt_tokens": 9, "total_tokens": 11}}, (9, 0, 11)),  # reasoning that is in the total alone
        ({"usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}}, (3, 2, 5)),
        ({"usage": {"type": "duration", "seconds": 9}}, None),
        ({"usage": {"prompt_tokens": -1, "completion_tokens": 1e9, "total_tokens": 2**60}}, None),
        ({"usage": None}, None),
        ({"error": {"message": "no"}}, None),
    ],
)
def test_only_numbers_of_tokens_are_usage(usage: Any, expected: Any) -> None:
    found = OPENAI.read(usage, None)
    assert (found and (found.input_tokens, found.output_tokens, found.total_tokens)) == expected


def test_cached_input_of_both_providers_is_a_part_of_the_input() -> None:
    report = {"input_tokens": 10, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20, "output_tokens": 5}
    usage = ANTHROPIC.read({"usage": report}, None)
    assert usage is not None
    assert (usage.input_tokens, usage.cached_tokens, usage.total_tokens) == (130, 100, 135)
    usage = OPENAI.read({"usage": {**USED, "prompt_tokens_details": {"cached_tokens": 4}}}, None)
    assert usage is not None
    assert (usage.input_tokens, usage.cached_tokens, usage.details["total_tokens"]) == (7, 4, 12)


def test_lines_of_json_are_a_stream_too() -> None:
    lines = b'{"message": {"content": "a"}}\n{"done": true, "prompt_eval_count": 3, "eval_count": 4}\n'

    def ollama(value: Any) -> Any:
        return value["prompt_eval_count"] + value["eval_count"] if value.get("done") else None

    reader = load_reader(ollama, "usage")
    assert read(lines, reader, "application/x-ndjson")[0] == (0, 0, 7, "")
    assert body_of("audio/mpeg", reader) is None
    assert body_of("application/vnd.api+json; charset=utf-8", reader) is not None


def test_a_name_that_nothing_has_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"usage = 'opena': expected one of anthropic, bedrock, cohere, google, openai"
    ):
        load_reader("opena", "usage")


# --- estimates --------------------------------------------------------------------------------------------------------


def estimated(body: Any, path: str = "/v1/chat/completions", reader: UsageReader = OPENAI) -> tuple[int, int, str]:
    usage = reader.estimate(fields_of(json.dumps(body).encode(), is_whole=True), path)
    return usage.input_tokens, usage.output_tokens, usage.model


PARTS = [
    {"type": "text", "text": "abcd"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9000}},
]


@pytest.mark.parametrize(
    ("body", "path", "expected"),
    [
        (
            {"model": "m", "messages": [{"role": "user", "content": "abcdefgh"}], "max_tokens": 20},
            "/chat",
            (6, 20, "m"),
        ),
        ({"messages": [], "max_completion_tokens": 20, "max_tokens": 99, "n": 3}, "/chat", (0, 60, "")),
        ({"input": "abcdefgh", "instructions": "abcd", "max_output_tokens": 5}, "/v1/responses", (3, 5, "")),
        ({"input": ["abcd", "abcd"]}, "/v1/embeddings", (2, 0, "")),
        ({"input": [[1, 2, 3], [4]]}, "/v1/embeddings", (4, 0, "")),
        ({"prompt": "abcd"}, "/v1/completions", (1, DEFAULT_OUTPUT_TOKENS, "")),
        ({"messages": [{"role": "user", "content": PARTS}], "max_tokens": 1}, "/chat", (1005, 1, "")),
        ({"messages": "nonsense", "max_tokens": "many"}, "/chat", (2, DEFAULT_OUTPUT_TOKENS, "")),
        ([], "/chat", (0, 0, "")),
    ],
)
def test_a_request_is_estimated_by_its_prompt_and_its_maximum(body: Any, path: str, expected: Any) -> None:
    assert estimated(body, path) == expected


def test_the_requests_of_google_and_cohere_are_estimated_in_their_own_form() -> None:
    contents = [{"role": "user", "parts": [{"text": "x" * 40}, {"inlineData": {"data": "A" * 9000}}]}]
    settings = {"maxOutputTokens": 50, "candidateCount": 2}
    path = "/v1beta/models/gemini-x:streamGenerateContent"
    body = {"contents": contents, "systemInstruction": {"parts": [{"text": "y" * 20}]}, "generationConfig": settings}
    assert estimated(body, path, GOOGLE) == (1020, 100, "gemini-x")
    assert estimated({"content": contents[0]}, "/v1beta/models/gemini-x:embedContent", GOOGLE)[1:] == (0, "gemini-x")
    assert estimated({}, path, GOOGLE) == (0, 0, "")
    chat = {"model": "command", "messages": [{"role": "user", "content": "x" * 40}], "max_tokens": 30}
    assert estimated(chat, "/v2/chat", COHERE) == (14, 30, "command")
    assert estimated({"model": "embed", "texts": ["x" * 40] * 3}, "/v2/embed", COHERE) == (30, 0, "embed")


def test_a_body_that_is_too_long_is_estimated_by_its_beginning() -> None:
    body = (
        b'{"model": "m", "max_tokens": 30, "n": 2, "messages": [{"content": "' + b"word " * 400 + b"/" + b"QUJD" * 9000
    )
    usage = OPENAI.estimate(fields_of(body, is_whole=False), "/chat")
    assert (usage.output_tokens, usage.model) == (60, "m")
    assert 480 < usage.input_tokens < 600
    assert fields_of(b'{"model"', is_whole=True) == {}


def test_nesting_without_an_end_is_bounded() -> None:
    deep: Any = "text"
    for _ in range(200):
        deep = [deep]
    assert estimated({"messages": deep, "max_tokens": 1}) == (0, 1, "")
    assert fields_of(b"[" * 100_000, is_whole=True) == {}


def test_usage_is_the_sum_of_its_parts_unless_it_says_otherwise() -> None:
    assert Usage(input_tokens=2, output_tokens=3).total_tokens == 5
    assert Usage(input_tokens=2, total_tokens=9).total_tokens == 9
    make: Callable[..., Usage] = Usage
    with pytest.raises(TypeError):
        make(2, 3)
