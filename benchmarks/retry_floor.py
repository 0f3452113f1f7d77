"""The least that the promises of Retry can cost for a call whose first response ends it: a transport by hand.

It asks for each call all that Retry has to know before it gives the response back. Where the answer is that there is
more to do, the stand-in notes that and does nothing: such calls are none of those measured.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from operator import itemgetter
from typing import Any, Final

__all__ = ["by_hand"]

_OPTIONS: Final[ContextVar[object]] = ContextVar("benchmark.options", default=None)
_NOT_ORDINARY: Final = frozenset({"flexmw", "flexmw.limits", "flexmw.deadline", "trace"})
_NAMES: Final = frozenset({b"idempotency-key", b"x-stainless-retry-count"})
_TTL: Final = b"idempotency-key-ttl"
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
_HEAD_STARTED: Final = frozenset({"http11.send_request_headers.started", "http2.send_request_headers.started"})
_MAX_UNCOUNTED: Final = 1_000
_NAME: Final = itemgetter(1)


def by_hand(library: Any) -> Any:
    """A client whose transport asks what Retry asks of an ordinary call.

    :param library: httpx or httpx2.
    """
    client = library.Client(trust_env=False)
    client._transport = _transport_class(library)(client._transport)
    return client


def _transport_class(library: Any) -> Any:
    class Body(library.SyncByteStream):  # type: ignore[misc]
        """A body whose failure is noted: the execution may be over, and its response is lost."""

        def __init__(self, stream: Any, call: Call) -> None:
            self.stream, self.call = stream, call

        def __iter__(self) -> Iterator[bytes]:
            try:
                yield from self.stream
            except BaseException as error:
                self.call.note(error)
                raise

        def close(self) -> None:
            self.stream.close()

    class Call:
        """One call: its request without the headers and extensions of the caller's, and whether it has left."""

        __slots__ = ("has_left", "odd", "request")

        def __init__(self, given: Any) -> None:
            self.has_left, self.odd = False, list[Any]()
            self.request: Any = object.__new__(given.__class__)
            self.request.__dict__ = state = given.__dict__.copy()
            state["headers"] = library.Headers(state["headers"])
            state["extensions"] = {**state["extensions"], "trace": self.trace}

        def note(self, what: object) -> None:
            """Note what is more than a response that ends the call."""
            self.odd.append(what)

        def trace(self, event: str, details: Mapping[str, Any]) -> None:
            """Note when the request leaves: until then an error proves that nothing was executed."""
            if event in _HEAD_STARTED and details["request"].method != b"CONNECT":
                self.has_left = True
                self.request.extensions.pop("trace", None)
            else:
                self.note(event)

    class Transport(library.BaseTransport):  # type: ignore[misc]
        """Wraps the transport of a client."""

        def __init__(self, wrapped: Any) -> None:
            self.wrapped, self.is_closed = wrapped, False
            self.counted_hosts: set[str] = set()
            self.failed_calls: dict[object, object] = {}
            self.earned: deque[float] = deque(maxlen=_MAX_UNCOUNTED)

        def handle_request(self, request: Any) -> Any:
            if (
                _OPTIONS.get() is not None
                or self.is_closed
                or self.counted_hosts
                or self.failed_calls
                or not _NOT_ORDINARY.isdisjoint(request.extensions)
                or type(request.stream) is not library.ByteStream
                or not _NAMES.isdisjoint(map(_NAME, request.headers._list))
            ):
                raise NotImplementedError("the stand-in sends ordinary requests only")
            self.earned.append(0.2)
            call = Call(request)
            try:
                response = self.wrapped.handle_request(call.request)
            except BaseException as error:
                call.note((error, call.has_left))
                raise
            call.request.extensions.pop("trace", None)
            if response.status_code >= 400 or call.odd:
                call.note(response.status_code)
            if request.method not in _SAFE_METHODS and _TTL in map(_NAME, response.headers._list):
                self.counted_hosts.add(request.url.host)
            response.stream = Body(response.stream, call)
            response.extensions["flexmw"] = call
            return response

        def close(self) -> None:
            self.is_closed = True
            self.wrapped.close()

    return Transport
