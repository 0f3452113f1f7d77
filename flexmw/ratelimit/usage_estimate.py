"""Estimate the tokens of a request by its body: a cheap count of the prompt, and the maximum of the output. Pure.

Nothing here is exact. Text counts one token for four bytes of UTF-8, which is close for English prose, low for code and
close for Chinese. ``flexmw.rate_limiting.estimate.error`` measures how far off it is on an application's own requests.

>>> prompt_tokens({"messages": [{"role": "user", "content": "Say hello to the world."}]})
10
>>> output_tokens({"max_completion_tokens": 200, "n": 2})
400
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from flexmw.ratelimit.usage import count_of

__all__ = ["DEFAULT_OUTPUT_TOKENS", "fields_of", "output_tokens", "prompt_tokens"]

DEFAULT_OUTPUT_TOKENS: Final = 512
"""What a response is expected to have where the request names no maximum."""

_BYTES_PER_TOKEN: Final = 4
_MESSAGE_TOKENS: Final = 4
"""The frame of one message: its role and its separators."""

_IMAGE_TOKENS: Final = 1000
"""One image. Providers count 85 to some thousands, by its size."""

_MAX_DEPTH: Final = 8
_MAX_CHOICES: Final = 128
_MAX_OUTPUT: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens", "max_tokens_to_sample")
_PROMPTS: Final = ("messages", "prompt", "input", "instructions", "system", "tools", "functions")
_TEXTS: Final = (
    "content",
    "text",
    "arguments",
    "output",
    "input",
    "parameters",
    "description",
    "input_schema",
    "function",
)
_IMAGES: Final = ("image_url", "source", "image", "inlineData", "fileData")
_NUMBER: Final = re.compile(rb'"(max_completion_tokens|max_output_tokens|max_tokens|n)"\s*:\s*(\d{1,9})\b')
_MODEL: Final = re.compile(rb'"model"\s*:\s*"([^"\\]{1,128})"')
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/=_-]{256,}")


def fields_of(body: bytes, *, is_whole: bool) -> Mapping[str, Any]:
    """The fields of a request's body that estimates need; none where it is no JSON object.

    :param body: the body, or its beginning.
    :param is_whole: False where the body was too long to be read whole. Its numbers are then looked for in the text,
        and the text counts as the prompt, without its base64.
    """
    if is_whole:
        try:
            value: Any = json.loads(body)
        except (ValueError, RecursionError):
            return {}
        return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}
    numbers = {name.decode(): int(number) for name, number in _NUMBER.findall(body)}
    model = _MODEL.search(body)
    names = {"model": model[1].decode("utf-8", "replace")} if model else {}
    return {**numbers, **names, "prompt": _BASE64.sub(b"", body).decode("utf-8", "replace")}


def prompt_tokens(fields: Mapping[str, Any]) -> int:
    """The tokens of the prompt, whatever the API calls it."""
    return sum(_tokens(fields.get(name), 0) for name in _PROMPTS)


def output_tokens(fields: Mapping[str, Any]) -> int:
    """The most tokens that the response may have, of all its choices."""
    most = count_of(fields, *_MAX_OUTPUT)
    choices = count_of(fields, "n") or 1
    return (DEFAULT_OUTPUT_TOKENS if most is None else most) * min(choices, _MAX_CHOICES)


def _tokens(value: object, depth: int) -> int:
    if isinstance(value, str):
        return -(-len(value.encode("utf-8", "replace")) // _BYTES_PER_TOKEN)
    if depth > _MAX_DEPTH:
        return 0
    if isinstance(value, list):
        items: list[Any] = value
        if items and all(type(item) is int for item in items):
            return len(items)  # a prompt that the client has encoded
        return sum(_tokens(item, depth + 1) for item in items)
    if isinstance(value, dict):
        return _of_object(cast("dict[str, Any]", value), depth)
    return 0


def _of_object(fields: dict[str, Any], depth: int) -> int:
    frame = _MESSAGE_TOKENS if "role" in fields else 0
    images = _IMAGE_TOKENS if any(name in fields for name in _IMAGES) else 0
    if any(name in fields for name in _TEXTS):
        return frame + images + sum(_tokens(fields.get(name), depth + 1) for name in _TEXTS)
    return frame + images + (0 if images else _values(fields.values(), depth))


def _values(values: Iterable[Any], depth: int) -> int:
    """The tokens of an object of another form, such as the schema of a tool."""
    return sum(_tokens(value, depth + 1) for value in values)
