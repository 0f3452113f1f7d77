"""Good responses: JSON, or server-sent events, that the SDK of each path can parse.

>>> from flexmw.testing.hostile.received import Received
>>> answer_to(Received(method="POST", target="/v1/chat/completions"), 1).body[:27]
b'{"id": "chatcmpl-1", "objec'
>>> answer_to(Received(method="POST", target="/orders"), 2)
Good(body=b'{"ok": true, "path": "/orders", "execution": 2}', content_type='application/json')
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from flexmw.testing.hostile.received import Received

__all__ = ["Good", "answer_to"]

Event: TypeAlias = tuple[str | None, Mapping[str, Any]]

_MODEL: Final = "hostile-1"
_CREATED: Final = 1_800_000_000
_TEXT: Final = "Hello from the hostile server."
_USAGE: Final = {"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9}


@dataclass(frozen=True, slots=True)
class Good:
    """A body and its media type."""

    body: bytes
    content_type: str = "application/json"


def answer_to(request: Received, execution: int) -> Good:
    """Return the good response.

    :param execution: the number of the execution. It is part of the response's id, so that a test sees which
        execution a client got the response of.
    """
    path = request.path.rstrip("/")
    if _wants_stream(request):
        for suffix, events in _STREAMS.items():
            if path.endswith(suffix):
                return Good(b"".join(_encode(*event) for event in events(execution)), "text/event-stream")
    for suffix, build in _ANSWERS.items():
        if path.endswith(suffix):
            return Good(json.dumps(build(execution)).encode())
    return Good(json.dumps({"ok": True, "path": request.path, "execution": execution}).encode())


def _wants_stream(request: Received) -> bool:
    try:
        return bool(request.json()["stream"] is True)
    except (ValueError, RecursionError, TypeError, LookupError):
        return False


def _encode(name: str | None, data: Mapping[str, Any]) -> bytes:
    event = f"event: {name}\n" if name else ""
    text = "[DONE]" if name is None and not data else json.dumps(data)
    return f"{event}data: {text}\n\n".encode()


def _chat(n: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": _TEXT}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return {
        "id": f"chatcmpl-{n}",
        "object": "chat.completion",
        "created": _CREATED,
        "model": _MODEL,
        "choices": [choice],
        "usage": _USAGE,
    }


def _chat_events(n: int) -> Iterable[Event]:
    head = {"id": f"chatcmpl-{n}", "object": "chat.completion.chunk", "created": _CREATED, "model": _MODEL}
    for word in re.findall(r"\S+\s*", _TEXT):
        yield None, {**head, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
    yield None, {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    yield None, {}


def _completion(n: int) -> dict[str, Any]:
    choice = {"index": 0, "text": _TEXT, "finish_reason": "stop", "logprobs": None}
    head = {"id": f"cmpl-{n}", "object": "text_completion", "created": _CREATED, "model": _MODEL}
    return {**head, "choices": [choice], "usage": _USAGE}


def _message(n: int) -> dict[str, Any]:
    return {
        "id": f"msg_{n}",
        "type": "message",
        "role": "assistant",
        "model": _MODEL,
        "content": [{"type": "text", "text": _TEXT}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 6},
    }


def _message_events(n: int) -> Iterable[Event]:
    start: dict[str, Any] = {**_message(n), "content": [], "stop_reason": None}
    parts: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": _TEXT}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 6},
        },
        {"type": "message_stop"},
    ]
    return ((part["type"], part) for part in parts)


def _response(n: int) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "output_text", "text": _TEXT, "annotations": []}
    output: dict[str, Any] = {"id": f"msg_{n}", "type": "message", "role": "assistant", "status": "completed"}
    return {
        "id": f"resp_{n}",
        "object": "response",
        "created_at": _CREATED,
        "status": "completed",
        "model": _MODEL,
        "output": [{**output, "content": [part]}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


def _embeddings(n: int) -> dict[str, Any]:
    data = [{"object": "embedding", "index": 0, "embedding": [float(n), 0.5]}]
    return {"object": "list", "model": _MODEL, "data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}}


def _models(n: int) -> dict[str, Any]:
    model = {"id": _MODEL, "object": "model", "created": _CREATED, "owned_by": "hostile"}
    return {"object": "list", "data": [model]}


def _cohere(n: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": [{"type": "text", "text": _TEXT}]}
    usage = {"tokens": {"input_tokens": 3, "output_tokens": 6}}
    return {"id": f"chat-{n}", "finish_reason": "COMPLETE", "message": message, "usage": usage}


def _gemini(n: int) -> dict[str, Any]:
    content = {"role": "model", "parts": [{"text": _TEXT}]}
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 6, "totalTokenCount": 9}
    return {
        "responseId": f"resp-{n}",
        "modelVersion": _MODEL,
        "candidates": [{"index": 0, "content": content, "finishReason": "STOP"}],
        "usageMetadata": usage,
    }


_ANSWERS: Final[Mapping[str, Callable[[int], Mapping[str, Any]]]] = {
    "/chat/completions": _chat,
    "/completions": _completion,
    "/messages": _message,
    "/responses": _response,
    "/embeddings": _embeddings,
    "/models": _models,
    "/v2/chat": _cohere,
    ":generateContent": _gemini,
}

_STREAMS: Final[Mapping[str, Callable[[int], Iterable[Event]]]] = {
    "/chat/completions": _chat_events,
    "/messages": _message_events,
}
