"""Response reader: the event of a response, the wait that it names, and the information in its body.

>>> read_head(429, {"retry-after": "2"}, now=0.0)
Head(event='refused', wait=Wait(seconds=2.0, source='retry-after'), asked=None)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flexmw.contract import Wait, names_wait, wait_of
from flexmw.contract.codings import decode
from flexmw.retry.core import Event, is_json, of_status
from flexmw.retry.log import LOGGER

__all__ = [
    "MAX_BODY_BYTES",
    "Head",
    "body_counts",
    "decoded",
    "has_whole_body_soon",
    "is_out_of_quota",
    "media_type_of",
    "read_head",
    "wait_in_body",
]

MAX_BODY_BYTES: Final = 64 * 1024
"""The largest part of a body that is read for a decision."""

_RETRY_INFO: Final = "type.googleapis.com/google.rpc.RetryInfo"
_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s")
"""A positive ``google.protobuf.Duration`` in the JSON form of protocol buffers."""

_UNAVAILABLE: Final = (503, 529)

_SHOULD_RETRY: Final = "x-should-retry"
_ASKED: Final[Mapping[str, bool]] = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a response, as Retry reads it.

    :param wait: the wait that the response names; ``None`` if it names none.
    :param asked: the value of the response's ``x-should-retry``; ``None`` if it has none.
    """

    event: Event
    wait: Wait | None
    asked: bool | None


def read_head(status: int, headers: Mapping[str, str], *, now: float, classified: Event | None = None) -> Head:
    """Read the status and the headers of a response.

    A reset header of a rate limit names the end of a window. It is a wait only for a request that the limit refused.

    :param now: Unix seconds.
    :param classified: the event that ``classify`` has returned; ``None``: the status decides.
    """
    asked = _ASKED.get(headers.get(_SHOULD_RETRY, "").strip().lower())
    event = classified or of_status(status, retry_after=names_wait(headers), asked=asked)
    wait = wait_of(headers, now=now, status=429 if classified == "refused" else status)
    return Head(event, wait, asked)


def media_type_of(headers: Mapping[str, str]) -> str:
    """The media type of a response, without parameters, in lower case."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def has_whole_body_soon(headers: Mapping[str, str]) -> bool:
    """Return whether a body states its length, and is small: the time and the memory for reading it are bounded."""
    length = headers.get("content-length", "")
    return length.isascii() and length.isdigit() and len(length) < 7 and int(length) <= MAX_BODY_BYTES


def decoded(body: bytes, encoding: str) -> bytes:
    """Decode the beginning of a body. If the body cannot be decoded, log that and return no bytes."""
    plain = decode(body, encoding, limit=MAX_BODY_BYTES)
    if plain is None:
        LOGGER.debug("a body of an error response cannot be decoded and counts as empty: content-encoding %r", encoding)
        return b""
    return plain.data


def body_counts(status: int, headers: Mapping[str, str], wait: Wait | None) -> bool:
    """Return whether the body of an error is worth reading: small JSON of a 429, or of a 503 or 529 without a wait.

    The body of a 429 may say that the quota is used up. The body of the others may name a wait.

    :param wait: the wait that the head names.
    """
    if status != 429 and not (status in _UNAVAILABLE and wait is None):
        return False
    return has_whole_body_soon(headers) and "json" in media_type_of(headers)


def is_out_of_quota(body: bytes, media_type: str) -> bool:
    """Return whether an error body in OpenAI's format says that the quota is used up, so that no wait helps."""
    if not is_json(media_type) or b"insufficient_quota" not in body:
        return False
    error = _error_of(body)
    return error is not None and "insufficient_quota" in (error.get("code"), error.get("type"))


def wait_in_body(body: bytes, media_type: str) -> Wait | None:
    """Return the wait of the ``RetryInfo`` in an error body (``google.rpc.Status``, AIP-193); ``None`` without one.

    >>> info = b'{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}'
    >>> wait_in_body(b'{"error": {"code": 429, "details": [%s]}}' % info, "application/json")
    Wait(seconds=34.5, source='retry-info')
    """
    if not is_json(media_type) or b"RetryInfo" not in body:
        return None
    details: Any = (_error_of(body) or {}).get("details")
    longest = 0.0
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and detail.get("@type") == _RETRY_INFO:
            delay = detail.get("retryDelay")
            match = _DURATION.fullmatch(delay) if isinstance(delay, str) else None
            longest = max(longest, float(match[1]) if match else 0.0)
    return Wait(longest, "retry-info") if longest else None


def _error_of(body: bytes) -> dict[str, Any] | None:
    """Return the error object of a JSON body: the member ``error`` of the body, or of the first element of a list
    (streams of Gemini and its version of OpenAI's API), else the body itself."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list):
        value = value[0] if value else None
    error = value.get("error", value) if isinstance(value, dict) else None
    return error if isinstance(error, dict) else None
