"""Responses in memory whose body has not been read: what a flow gets from a real transport.

A flow that reads such a body by itself would block a client, or break one of the four transports, so reading and
closing are faults. :func:`finish` makes the responses readable when the flow has ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from importlib import import_module
from typing import Any, Final, NoReturn

__all__ = ["body_of", "finish", "misuse", "put_body", "unread_response"]

_READ: Final = "it read the body of a response by itself; only `body = yield from flexmw.read(response, limit)` may"
_CLOSED: Final = "it closed a response by itself; only `yield from flexmw.discard(response)` may"
_MISUSES: Final = {
    "ResponseNotRead": "it used the body of a response that has not been read: "
    "`body = yield from flexmw.read(response, limit)` returns the body",
    "RequestNotRead": "it used request.content of an upload from a stream, which is not in memory: "
    "catch RequestNotRead and let such a request pass",
    "StreamConsumed": _READ,
    "StreamClosed": _READ,
}


class UnreadBody:
    """A body that waits for the transport to read it.

    :ivar misuse: the fault of a flow that reads or closes the body itself.
    """

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.misuse: str | None = None

    def __iter__(self) -> NoReturn:
        self._refuse(_READ)

    def __aiter__(self) -> NoReturn:
        self._refuse(_READ)

    def close(self) -> None:
        self._refuse(_CLOSED)

    async def aclose(self) -> None:
        self._refuse(_CLOSED)

    def _refuse(self, misuse: str) -> NoReturn:
        self.misuse = self.misuse or misuse
        raise RuntimeError(misuse)


def unread_response(request: Any, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> Any:
    """Make a response of the request's library whose body has not been read."""
    library = _library(request)
    pairs = [*headers, ("content-length", str(len(body)))]
    return library.Response(status, headers=pairs, stream=_body_class(library)(body), request=request)


def body_of(response: Any) -> bytes:
    """Return the body of a response in memory, and leave it as it is."""
    stream = response.stream
    if isinstance(stream, UnreadBody):
        return stream.body
    if not hasattr(response, "_content"):
        body = b"".join(stream)
        put_body(response, body)
        return body
    content: bytes = response.content
    return content


def put_body(response: Any, body: bytes) -> None:
    """Give a response in memory another body."""
    if isinstance(response.stream, UnreadBody):
        response.stream.body = body
    elif hasattr(response, "_content"):
        response._content = body
    else:
        response.stream = _library(response).ByteStream(body)


def misuse(responses: Iterable[Any], error: BaseException | None = None) -> str | None:
    """Return the fault of a flow that used a body without asking the transport for it.

    :param responses: the responses that the flow got.
    :param error: what the flow raised.
    """
    for response in responses:
        stream = getattr(response, "stream", None)
        if isinstance(stream, UnreadBody) and stream.misuse:
            return stream.misuse
    return _MISUSES.get(type(error).__name__)


def finish(responses: Iterable[Any]) -> None:
    """Read the bodies that the flow has left unread, for the assertions of a test."""
    for response in responses:
        stream = getattr(response, "stream", None)
        if isinstance(stream, UnreadBody) and not stream.misuse:
            response.stream = _library(response).ByteStream(stream.body)
            response.read()


def _library(message: Any) -> Any:
    return import_module(type(message).__module__.partition(".")[0])


@lru_cache(maxsize=2)
def _body_class(library: Any) -> Any:
    """The class of bodies of a library, which accepts only streams that derive from its own."""
    return type("UnreadBody", (UnreadBody, library.SyncByteStream, library.AsyncByteStream), {})
