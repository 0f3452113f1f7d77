"""Read a response: the event that it stands for, the wait that it asks for, and what its body says.

>>> read_head(429, {"retry-after": "2"}, now=0.0)
Head(event='refused', wait=Wait(seconds=2.0, source='retry-after'), asked=None)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flexmw.contract import Wait, names_wait, wait_of
from flexmw.contract.codings import decode
from flexmw.retry.core import Event, is_json, of_status
from flexmw.retry.log import LOGGER

__all__ = ["MAX_BODY_BYTES", "Head", "decoded", "has_whole_body_soon", "is_out_of_quota", "media_type_of", "read_head"]

MAX_BODY_BYTES: Final = 64 * 1024
"""No more of a body is read before the call is decided."""

_SHOULD_RETRY: Final = "x-should-retry"
_ASKED: Final[Mapping[str, bool]] = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Head:
    """What the head of a response says.

    :param wait: the wait that the response asks for; ``None`` where it asks for none.
    :param asked: the response's ``x-should-retry``; ``None`` where it has none.
    """

    event: Event
    wait: Wait | None
    asked: bool | None


def read_head(status: int, headers: Mapping[str, str], *, now: float, classified: Event | None = None) -> Head:
    """Read status and headers.

    A reset header of a rate limit names the end of a window. It is a wait only for a request that the limit refused.

    :param now: Unix seconds.
    :param classified: the event that the user's own function names; the table decides where it is ``None``.
    """
    asked = _ASKED.get(headers.get(_SHOULD_RETRY, "").strip().lower())
    event = classified or of_status(status, retry_after=names_wait(headers), asked=asked)
    wait = wait_of(headers, now=now)
    if wait is not None and wait.source == "reset" and status != 429 and classified != "refused":
        wait = None
    return Head(event, wait, asked)


def media_type_of(headers: Mapping[str, str]) -> str:
    """The media type of a response, without parameters, in lower case."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def has_whole_body_soon(headers: Mapping[str, str]) -> bool:
    """Whether a body has a length, and a small one: reading it is bounded, and each read brings a piece of it."""
    length = headers.get("content-length", "")
    return length.isascii() and length.isdigit() and len(length) < 7 and int(length) <= MAX_BODY_BYTES


def decoded(body: bytes, encoding: str) -> bytes:
    """The beginning of a body without its content codings; empty where it cannot be decoded, which is logged."""
    plain = decode(body, encoding, limit=MAX_BODY_BYTES)
    if plain is None:
        LOGGER.debug("a body of an error response cannot be decoded and counts as empty: content-encoding %r", encoding)
        return b""
    return plain.data


def is_out_of_quota(body: bytes, media_type: str) -> bool:
    """Whether an error body (of OpenAI's form) says that the account has used up its quota: no wait helps."""
    if not is_json(media_type) or b"insufficient_quota" not in body:
        return False
    try:
        error: Any = json.loads(body)
    except (ValueError, RecursionError):
        return False
    error = error.get("error", error) if isinstance(error, dict) else None
    return isinstance(error, dict) and "insufficient_quota" in (error.get("code"), error.get("type"))
