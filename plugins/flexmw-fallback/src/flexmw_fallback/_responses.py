"""The responses of upstreams: a refusal that is kept while the next upstream is asked, the beginning of an error body,
the refusal of a call that no upstream takes, and what of a response must not reach the client's own upstream.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator
from typing import Any, Final

import flexmw
from flexmw.contract import PAGE, STATUS, ErrorBody, decode, for_status, retry_headers

__all__ = ["LOGGER", "MAX_REFUSAL_BYTES", "keep", "made_refusal", "peek", "without_side_effects"]

LOGGER: Final = logging.getLogger("flexmw.fallback")

_KEPT_BYTES: Final = 64 * 1024
_KEPT_SECONDS: Final = 1.0
MAX_REFUSAL_BYTES: Final = 4096
"""Bytes of a body that ``Fallback(refusal=...)`` sees at most."""

_PEEK_SECONDS: Final = 5.0
_BODY_HEADERS: Final = ("content-length", "content-encoding", "transfer-encoding", "content-type")


def keep(response: Any, request: Any) -> Generator[flexmw.Effect, Any, Any]:
    """Read a refusal into memory, and close it, so that its connection is free while another upstream is asked.

    A body that was read but not closed keeps its connection: a pool of one connection would wait for itself.

    :returns: the response; one with the same head and no body where the body of an error is long, slow or broken;
        ``None`` where that of a good response is, because such a response would look whole.
    """
    try:
        body: bytes | None = yield flexmw.Read(response, _KEPT_BYTES, _KEPT_SECONDS, request=request)
    except Exception as error:
        if not _is_of_library(error, response):
            raise
        return _bodiless(response)
    yield flexmw.Discard(response)
    return _bodiless(response) if body is None else _made_again(response, response.headers, body)


def _is_of_library(error: Exception, response: Any) -> bool:
    return isinstance(error, _library(response).TransportError)


def _bodiless(response: Any) -> Any:
    if response.status_code < 300:
        return None
    headers = [(name, value) for name, value in response.headers.multi_items() if name not in _BODY_HEADERS]
    return _made_again(response, headers, b"")


def _made_again(response: Any, headers: Any, body: bytes) -> Any:
    """The same response with a body in memory, as it arrived: still compressed."""
    stream = _library(response).ByteStream(body)
    return type(response)(response.status_code, headers=headers, stream=stream, extensions=response.extensions)


def _library(value: Any) -> Any:
    return sys.modules[type(value).__module__.partition(".")[0]]


def peek(response: Any, request: Any) -> Generator[flexmw.Effect, Any, tuple[Any, bytes]]:
    """The response, and the decoded beginning of its body, which can be read again from the start.

    A body that breaks is empty, and so is the body of the response then.
    """
    try:
        read = flexmw.Read(response, MAX_REFUSAL_BYTES, _PEEK_SECONDS, partial=True, request=request)
        body: bytes | None = yield read
    except Exception as error:
        if not _is_of_library(error, response):
            raise
        return _bodiless(response), b""
    plain = decode(body or b"", response.headers.get("content-encoding", ""), limit=MAX_REFUSAL_BYTES)
    return response, b"" if plain is None else plain.data


def without_side_effects(response: Any, origin: str) -> None:
    """Remove what a client would take for the word of the first upstream, for which it has made the request.

    A cookie would be kept for the first upstream and sent to it; a redirect would be followed with the first
    upstream's credentials.
    """
    headers = response.headers
    if "set-cookie" in headers:
        del headers["set-cookie"]
        LOGGER.debug("%s: its cookies are not kept: the client would send them to the first upstream", origin)
    if 300 <= response.status_code < 400 and "location" in headers:
        del headers["location"]
        LOGGER.warning(
            "%s: its redirect is not followed: the client would send the first upstream's credentials along; "
            "give Upstream(...) the URL that it redirects to",
            origin,
        )


def made_refusal(request: Any, status: int | None, wait: float, *, was_sent: bool) -> Any:
    """A refusal of flexmw's own, in the contract's format, for a call for which there is no other response.

    :param status: the status with which the upstream of the smallest wait has refused calls; ``None`` for 503.
    :param wait: seconds until an upstream takes calls again.
    """
    known = 503 if status is None or status not in STATUS else status
    row = PAGE["rate_limit_exceeded"] if known == 429 else for_status(known)
    message = "Every upstream has refused the request." if was_sent else _MESSAGE
    body = ErrorBody(message=message, type=row.type, code=row.code)
    response = _library(request).Response(known, json=body.as_dict(), request=request)
    for name, value in retry_headers(wait):
        response.headers[name] = value
    return response


_MESSAGE: Final = "No upstream takes requests now. Nothing was sent."
