"""What the caller of the first request is told when the app raises: the stored response must be the same."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any, Final

from starlette.exceptions import HTTPException

from flexmw.contract import PAGE, ErrorBody, for_status
from flexmw.errors import APIError, raised
from flexmw.idempotency.core import StoredResponse
from flexmw.kit.asgi import raw_headers
from flexmw.kit.exchange import Exchange, Header

__all__ = ["is_bare", "is_events", "is_held_back", "response_to", "speaks"]


def response_to(error: Exception, exchange: Exchange) -> tuple[int, bytes, list[Header]]:
    """Status, body and headers of the response to an exception of the app: Envelope's, or without an Envelope its
    default."""
    if isinstance(error, APIError):
        return error.status, error.body.encode(), raw_headers(error.headers)
    if exchange.map_exception is not None:
        judged = exchange.map_exception(error)
        if 400 <= judged.status <= 599 and judged.status != 499:
            return judged.status, judged.error.encode(), raw_headers(tuple(judged.headers))
    if isinstance(error, HTTPException) and 400 <= error.status_code <= 599:
        row = for_status(error.status_code)
        message = error.detail if error.status_code < 500 and isinstance(error.detail, str) else row.message
        body = ErrorBody(message=message, type=row.type, code=row.code)
        return row.status, body.encode(), raw_headers(error.headers)
    row = PAGE["upstream_timeout"] if isinstance(error, TimeoutError) else for_status(500)
    return row.status, ErrorBody(message=row.message, type=row.type, code=row.code).encode(), []


def is_bare(outcome: StoredResponse, error: Exception, *, status: int) -> bool:
    """Whether Envelope answers the exception instead of the 500 that the app has sent (``status`` of that response)."""
    if status != 500 or raised.get() is None:
        return False
    return outcome.body is None or not speaks(outcome.body, error)


def is_held_back(exchange: Exchange, *, headers: Iterable[Header], size: int) -> bool:
    """Whether an Envelope outside has the head still in its hand, and answers the exception in its place."""
    return exchange.map_exception is not None and size == 0 and is_events(headers)


def is_events(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a response is a stream of server-sent events."""
    return any(
        name.lower() == b"content-type" and value.lower().lstrip().startswith(b"text/event-stream")
        for name, value in headers
    )


_SAYS_NOTHING: Final = frozenset(
    {"", "error", "server error", "unknown error", "an error occurred", "internal error", "none", "null"}
    | {status.phrase.lower() for status in HTTPStatus}
)
_DEPTH: Final = 4


def speaks(body: bytes, error: BaseException) -> bool:
    """Whether the body of a 500 says something of the host's own, which then stands; ``error`` is what the host raised
    as well. A bare phrase, a page, and the text of the exception itself do not count."""
    text = body.decode("utf-8", "replace").strip()
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        value = None if text.startswith("<") or "Traceback" in text else text
    if isinstance(value, dict) and ErrorBody.decode(body) is not None:
        return True
    told = " ".join(str(error).split())[:200]
    words = [" ".join(each.split()) for each in _texts(value, _DEPTH)]
    if len(told) >= 4 and any(told in each for each in words):
        return False
    return any(each.strip(" .!").lower() not in _SAYS_NOTHING for each in words)


def _texts(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)) and depth:
        members: Iterable[Any] = value.values() if isinstance(value, dict) else value
        for member in members:
            yield from _texts(member, depth - 1)
