"""Responses that a flow makes itself, such as a cache's: :func:`build_response`.

>>> import httpx
>>> request = httpx.Request("GET", "https://api.test/")
>>> response = build_response(request, 200, headers={"content-type": "text/plain"}, body=b"kept")
>>> response.status_code, response.headers["content-length"], is_built(response)
(200, '4', True)
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from flexmw.errors import ConfigError
from flexmw.kit.effects import Response

__all__ = ["BUILT", "build_response", "is_built"]

BUILT: Final = "flexmw.built"
"""The extension of a response that a component has made: nothing was sent for it."""

_FRAMING: Final = frozenset({"transfer-encoding", "connection", "keep-alive"})
"""Headers that describe one connection: how a body arrived, and not its content."""

_KEEPS_LENGTH: Final = frozenset({204, 304})
"""Statuses of responses without a body, whose ``content-length`` is about another response."""


class RequestLike(Protocol):
    """The request of a flow, or one of httpx or httpx2 that a test has made."""

    @property
    def method(self) -> str: ...


def build_response(
    request: RequestLike,
    status_code: int = 200,
    *,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    body: bytes = b"",
) -> Response:
    """Make a response for a flow that responds without sending.

    The response is one of the request's own library, and the same for a blocking and an async client. Like a response
    of the transport, it has not been read yet. The flow returns it.

    :param request: the request that it responds to.
    :param status_code: the status, from 200 to 599.
    :param headers: a mapping, or pairs of name and value in order, of which names may repeat. ``content-length`` is set
        to the length of the body; headers of a connection, such as ``transfer-encoding``, are left out.
    :param body: the body in bytes, as it would arrive: compressed if ``headers`` have a ``content-encoding``, as
        ``flexmw.read`` returns it.
    :raises ConfigError: the request is not one of httpx or httpx2, or a value cannot be that of a response.
    """
    library = _library(request)
    _check(status_code, body)
    pairs = [(name, value) for name, value in _pairs(headers) if name.lower() not in _FRAMING]
    if request.method != "HEAD" and status_code not in _KEEPS_LENGTH:
        pairs = [(name, value) for name, value in pairs if name.lower() != "content-length"]
        pairs.append(("content-length", str(len(body))))
    elif body:
        problem = f"{len(body)} bytes for a {status_code} to a {request.method}"
        raise ConfigError("build_response(body=...)", problem, "no body: such a response has none")
    response: Response = library.Response(
        status_code,
        headers=pairs,
        stream=library.ByteStream(body),
        request=request,
        extensions={BUILT: True},
    )
    return response


def _check(status_code: Any, body: Any) -> None:
    if not isinstance(status_code, int) or isinstance(status_code, bool) or not 200 <= status_code <= 599:
        raise ConfigError("build_response(status_code=...)", status_code, "a status from 200 to 599")
    if not isinstance(body, bytes):
        raise ConfigError("build_response(body=...)", type(body).__name__, "bytes: encode a text or a JSON value first")


def is_built(response: Any) -> bool:
    """Whether a response was made by :func:`build_response`."""
    return BUILT in getattr(response, "extensions", ())


def _library(request: object) -> Any:
    """The client library of a request, also if the class of the request is derived from the library's."""
    for base in type(request).__mro__:
        name = base.__module__.partition(".")[0]
        if name in ("httpx", "httpx2"):
            return sys.modules[name]
    raise ConfigError("build_response(request)", request, "the request that the flow was given")


def _pairs(headers: Any) -> list[tuple[str, str]]:
    """Pairs of name and value.

    A mapping with ``multi_items``, as the headers of both libraries, gives each of its repeated headers.
    """
    items = getattr(headers, "multi_items", None) or getattr(headers, "items", None)
    try:
        pairs = list(items() if items is not None else headers)
        if all(isinstance(name, str) and isinstance(value, str) for name, value in pairs):
            return pairs
    except (TypeError, ValueError):
        pass
    raise ConfigError("build_response(headers=...)", headers, 'a mapping, or pairs such as ("etag", "1"), of texts')
