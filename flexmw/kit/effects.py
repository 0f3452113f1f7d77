"""What a client component may ask for, and what it is handed: the vocabulary of a flow.

A flow is one generator per call. It yields effects and is sent their outcomes; it knows neither threads nor event
loops, neither httpx nor httpx2, so that the same one runs on four transports and in tests without a network.

>>> def once_more(request: Request) -> Flow:
...     response = yield Send(request)
...     if response.status_code == 503:
...         yield Discard(response)
...         yield Sleep(1.0)
...         response = yield Send(request)
...     return response
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, MutableMapping
from dataclasses import dataclass
from math import inf
from typing import Any, Final, Protocol, TypeAlias

__all__ = [
    "DEADLINE",
    "RESENDS",
    "Discard",
    "Effect",
    "Emit",
    "Flow",
    "Follow",
    "Observer",
    "Read",
    "Replace",
    "Request",
    "Response",
    "RunBlocking",
    "Send",
    "Sleep",
    "head_leaves",
]


RESENDS: Final = "flexmw.resends"
"""The request extension that says, from the second attempt on, how many attempts went before it."""

DEADLINE: Final = "flexmw.deadline"
"""The request extension that says when a call with a deadline ends, in monotonic seconds: no wait may last longer."""


class URL(Protocol):
    """The part of httpx's ``URL`` that flows use."""

    @property
    def scheme(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int | None: ...
    @property
    def path(self) -> str: ...
    @property
    def query(self) -> bytes: ...


class Request(Protocol):
    """A request on its way out: the client library's own object. Headers and extensions may be changed."""

    method: str
    extensions: MutableMapping[str, Any]
    stream: Any

    @property
    def url(self) -> URL: ...
    @property
    def headers(self) -> MutableMapping[str, str]: ...


class Response(Protocol):
    """An answer whose head has arrived: the client library's own object. Its body is not read yet."""

    status_code: int
    extensions: MutableMapping[str, Any]
    stream: Any

    @property
    def headers(self) -> MutableMapping[str, str]: ...


Observer: TypeAlias = Callable[[str, Mapping[str, Any]], None]
"""Is told each event with its details, as it happens: the transport's own up to the moment at which the request's head
leaves (httpcore's ``trace`` extension, such as ``http11.send_request_headers.started``; over HTTP/2 all of them), and
those that components further inward tell."""


_HEADS: Final = frozenset({"http11.send_request_headers.started", "http2.send_request_headers.started"})


def head_leaves(event: str, details: Mapping[str, Any]) -> bool:
    """Whether an event of the transport says that the request itself goes out now: from here on the server may work.
    A CONNECT only asks a proxy for a tunnel."""
    return event in _HEADS and getattr(details.get("request"), "method", b"") != b"CONNECT"


@dataclass(slots=True)
class Send:
    """Send a request to the next component inward, at last to the transport. Its outcome is a :class:`Response`; a
    transport error is thrown in instead. ``observe`` is told what happens further inward meanwhile."""

    request: Request
    observe: Observer | None = None


@dataclass(slots=True)
class Sleep:
    """Wait for so many seconds."""

    seconds: float


@dataclass(slots=True)
class Discard:
    """Give an answer up: a small body is read so that its connection can be used again, any other is closed. Reading
    takes ``seconds`` at most, and never more than one."""

    response: Response
    seconds: float = inf


@dataclass(slots=True)
class Read:
    """Read the body of an answer, at most ``limit`` bytes of it. Its outcome is the body as it came (still compressed),
    or ``None`` when it is longer; the answer then reads the same from its start. What breaks the body is thrown in."""

    response: Response
    limit: int


@dataclass(slots=True)
class Replace:
    """Give an answer another body. Its headers are the flow's to change. Its outcome is the same answer."""

    response: Response
    body: bytes


@dataclass(slots=True)
class Follow:
    """Be told, once, how the body of an answer ends: ``watch(None)`` when it was read to its end, ``watch(error)`` with
    what broke it, ``watch(GeneratorExit())`` when the caller closed it early. Its outcome is the same answer.

    ``tap`` is shown each piece of the body as the caller reads it; nothing is read that the caller does not."""

    response: Response
    watch: Callable[[BaseException | None], None]
    tap: Callable[[bytes], None] | None = None


@dataclass(slots=True)
class Emit:
    """Emit the observers further outward of an event, such as ``flexmw.retry.scheduled``. Costs nothing unheard."""

    event: str
    details: Mapping[str, Any]


@dataclass(slots=True)
class RunBlocking:
    """Run a function that blocks on something other than the request, such as a store.

    A blocking client runs the function in the calling thread, an async client in a worker thread. The outcome of the
    effect is what the function returns; what the function raises is thrown in. A cancelled task does not wait for the
    function, so the function must end by itself soon."""

    function: Callable[[], Any]


Effect: TypeAlias = Send | Sleep | Discard | Follow | Emit | Read | Replace | RunBlocking
Flow: TypeAlias = Generator[Effect, Any, Response]
