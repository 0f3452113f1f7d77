"""Effects of a flow: the operations that a client component asks its transport to perform.

A flow is one generator per call. It yields effects, and gets the result of each effect. It uses no threads, no event
loop and no client library, so the same flow runs on four transports, and in tests without a network.

Each effect is a class (:class:`Send`), and has a function of the same name in lower case (:func:`send`). The function
carries the type of the result, so a flow that uses it needs no annotation:

>>> def once_more(request: Request) -> Flow:
...     response = yield from send(request)
...     if response.status_code == 503:
...         yield from discard(response)
...         yield from sleep(1.0)
...         response = yield from send(request)
...     return response

``response = yield Send(request)`` does the same, and saves one generator. For a type checker its result is ``Any``,
because all results that are sent into a generator have one type.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Final, TypeAlias, TypeVar

from flexmw.kit.messages import Request, Response

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
    "Resume",
    "RunBlocking",
    "Send",
    "Skip",
    "Sleep",
    "discard",
    "emit",
    "follow",
    "head_leaves",
    "read",
    "replace",
    "resume",
    "run_blocking",
    "send",
    "skip",
    "sleep",
]

T = TypeVar("T")

RESENDS: Final = "flexmw.resends"
"""The request extension with the number of earlier attempts of the same call; set from the second attempt on."""

DEADLINE: Final = "flexmw.deadline"
"""The request extension with the time at which the call must end, in monotonic seconds. No wait may last longer."""


Observer: TypeAlias = Callable[[str, Mapping[str, Any]], None]
"""A function that is called with each event and its details, at the time of the event.

The events are those that inner components emit, and those of the transport until the head of the request leaves (over
HTTP/2, and over a transport that is not the library's own, all of them). The transport's have the names of httpcore's
``trace`` extension, such as ``http11.send_request_headers.started``."""


HEADS: Final = frozenset({"http11.send_request_headers.started", "http2.send_request_headers.started"})
"""The events of the transport when it begins to send the head of a request: see :func:`head_leaves`."""


WITHHELD: Final = "flexmw.event.withheld"
"""The event for the components inside of one that raises at the event ``event``: that event does not reach them, and
what it announces does not happen."""


def head_leaves(event: str, details: Mapping[str, Any]) -> bool:
    """Return whether an event of the transport marks the moment at which the request is sent.

    After this event the server may have begun to work. The head of a CONNECT does not count: it asks a proxy for a
    tunnel.
    """
    return event in HEADS and not is_connect(details)


def is_connect(details: Mapping[str, Any]) -> bool:
    """Return whether an event of the transport belongs to a CONNECT, with which a client asks a proxy for a tunnel."""
    return getattr(details.get("request"), "method", b"") == b"CONNECT"


@dataclass(slots=True)
class Send:
    """Send a request to the next component inward, and at last to the transport.

    The result is a :class:`Response`; an error of the transport is raised at the ``yield``.

    :param request: the request.
    :param observe: called with each event that happens further inward until the response arrives.
    :param on_end: called once when the body of the response ends, as by :class:`Follow`; for a flow that follows any
        response.
    """

    request: Request
    observe: Observer | None = None
    on_end: Callable[[BaseException | None], None] | None = None


@dataclass(slots=True)
class Sleep:
    """Wait for a number of seconds."""

    seconds: float


@dataclass(slots=True)
class Discard:
    """Give up a response. A small body is read, so that its connection can be used again; any other body is closed.

    :param response: the response; do not use it afterwards.
    :param seconds: the longest time to spend on reading, in seconds; the transport never spends more than one second.
    """

    response: Response
    seconds: float = inf


@dataclass(slots=True)
class Read:
    """Read the body of a response.

    The result is the body as it arrived, still compressed, or ``None`` if it is longer than ``limit`` or takes longer
    than ``seconds``. In both cases the response can still be read from the start. An error while reading is raised at
    the ``yield``.

    :param response: the response.
    :param limit: the largest body to read, in bytes.
    :param seconds: the longest time to spend on reading, in seconds. The time is checked after each chunk of the body.
    :param request: the request of the response. With it, the read also ends after ``seconds`` if no chunk arrives: the
        result is ``None``, or the beginning of the body with ``partial``. A later read of this body raises the
        library's ``ReadTimeout`` after the chunks that have arrived. A blocking read over a shared HTTP/2 connection
        does not end.
    :param partial: if the body is not read to its end, the result is the beginning of the body instead of ``None``.
    :param until: called with each chunk; the read ends when it returns true, as at the limit. With ``partial``, a flow
        can search the beginning of a stream.
    """

    response: Response
    limit: int
    seconds: float = inf
    partial: bool = False
    request: Request | None = None
    until: Callable[[bytes], bool] | None = None


@dataclass(slots=True)
class Replace:
    """Give a response another body. The result is the same response.

    The flow changes the headers itself, such as ``content-length`` and ``content-encoding``.

    :param response: the response.
    :param body: the new body, as it would arrive.
    """

    response: Response
    body: bytes


@dataclass(slots=True, init=False)
class Follow:
    """Observe the body of a response while the caller reads it. The result is the same response.

    :param response: the response.
    :param on_end: called once when the body ends: with ``None`` if it was read to its end, with the exception that
        broke it, or with a ``GeneratorExit`` if the caller closed it early.
    :param tap: called with each chunk of the body that the caller reads. The effect reads nothing by itself.
    """

    response: Response
    on_end: Callable[[BaseException | None], None]
    tap: Callable[[bytes], None] | None = None

    def __init__(
        self,
        response: Response,
        on_end: Callable[[BaseException | None], None] | None = None,
        tap: Callable[[bytes], None] | None = None,
        *,
        watch: Callable[[BaseException | None], None] | None = None,
    ) -> None:
        if on_end is None:
            if watch is None:
                raise TypeError("Follow() needs a function on_end")
            _warn_of_old_name("Follow(watch=...)", "Follow(on_end=...)")
            on_end = watch
        self.response, self.on_end, self.tap = response, on_end, tap

    @property
    def watch(self) -> Callable[[BaseException | None], None]:
        """The old name of ``on_end``."""
        _warn_of_old_name("Follow.watch", "Follow.on_end")
        return self.on_end


@dataclass(slots=True)
class Skip:
    """Read the beginning of a body and drop it.

    The result is the number of dropped bytes: less than ``size`` only if the body is shorter. After that, the rest is
    the whole body of the response. An error while reading is raised at the ``yield``.

    :param response: the response.
    :param size: the number of bytes to drop.
    :param tap: called with each chunk that is dropped.
    """

    response: Response
    size: int
    tap: Callable[[bytes], object] | None = None


@dataclass(slots=True)
class Resume:
    """Let another flow continue the body of a response when the body ends. The result is the same response.

    That flow runs while the caller reads the body, after the flow that yielded this effect has returned. Its ``Send``
    goes through the inner components, and its ``Emit`` reaches the outer observers. An outer ``Follow`` sees one body.
    A body that the caller closes or cancels is not continued, and neither is a body that is in memory already.

    :param response: the response.
    :param again: called each time the body ends: with the exception that broke it, or with ``None`` after its last
        byte. It returns a flow: the body of the flow's response continues the body, and an exception of the flow is
        raised to the caller. Or it returns ``None``: the end of the body stands.
    :param tap: called with each chunk of the body that the caller reads.
    """

    response: Response
    again: Callable[[Exception | None], Flow | None]
    tap: Callable[[bytes], object] | None = None


@dataclass(slots=True)
class Emit:
    """Emit an event to the outer observers. Without an observer it has no effect.

    :param event: the name of the event, such as ``flexmw.retry.scheduled``.
    :param details: the details of the event.
    """

    event: str
    details: Mapping[str, Any]


@dataclass(slots=True)
class RunBlocking:
    """Run a function that blocks on something other than the request, such as a store.

    A blocking client runs the function in the calling thread, an async client in a worker thread. The result is the
    return value of the function; an exception of the function is raised at the ``yield``. A cancelled task does not
    wait for the function, so the function must end soon by itself.
    """

    function: Callable[[], Any]


Effect: TypeAlias = Send | Sleep | Discard | Follow | Emit | Read | Replace | RunBlocking | Skip | Resume
Flow: TypeAlias = Generator[Effect, Any, Response]
"""A generator that yields effects and returns a response. ``yield from`` one flow inside another is allowed."""


def send(
    request: Request,
    observe: Observer | None = None,
    on_end: Callable[[BaseException | None], None] | None = None,
) -> Generator[Effect, Any, Response]:
    """Perform :class:`Send`; ``response = yield from send(request)``."""
    response: Response = yield Send(request, observe, on_end)
    return response


def sleep(seconds: float) -> Generator[Effect, Any, None]:
    """Perform :class:`Sleep`; ``yield from sleep(1.0)``."""
    yield Sleep(seconds)


def discard(response: Response, seconds: float = inf) -> Generator[Effect, Any, None]:
    """Perform :class:`Discard`; ``yield from discard(response)``."""
    yield Discard(response, seconds)


def read(response: Response, limit: int) -> Generator[Effect, Any, bytes | None]:
    """Perform :class:`Read`; ``body = yield from read(response, 65536)``."""
    body: bytes | None = yield Read(response, limit)
    return body


def replace(response: Response, body: bytes) -> Generator[Effect, Any, Response]:
    """Perform :class:`Replace`; ``response = yield from replace(response, body)``."""
    replaced: Response = yield Replace(response, body)
    return replaced


def follow(
    response: Response,
    on_end: Callable[[BaseException | None], None],
    tap: Callable[[bytes], None] | None = None,
) -> Generator[Effect, Any, Response]:
    """Perform :class:`Follow`; ``response = yield from follow(response, on_end)``."""
    followed: Response = yield Follow(response, on_end, tap)
    return followed


def skip(response: Response, size: int, tap: Callable[[bytes], object] | None = None) -> Generator[Effect, Any, int]:
    """Perform :class:`Skip`; ``size = yield from skip(response, 4096)``."""
    dropped: int = yield Skip(response, size, tap)
    return dropped


def resume(
    response: Response,
    again: Callable[[Exception | None], Flow | None],
    tap: Callable[[bytes], object] | None = None,
) -> Generator[Effect, Any, Response]:
    """Perform :class:`Resume`; ``response = yield from resume(response, again)``."""
    resumed: Response = yield Resume(response, again, tap)
    return resumed


def emit(event: str, details: Mapping[str, Any]) -> Generator[Effect, Any, None]:
    """Perform :class:`Emit`; ``yield from emit("acme.cached", {"age": 3})``."""
    yield Emit(event, details)


def run_blocking(function: Callable[[], T]) -> Generator[Effect, Any, T]:
    """Perform :class:`RunBlocking`; ``row = yield from run_blocking(store.load)``."""
    result: T = yield RunBlocking(function)
    return result


_OLD_NAMES: Final = {"Call": "RunBlocking", "Tell": "Emit"}


def __getattr__(name: str) -> Any:
    if name not in _OLD_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _warn_of_old_name(f"{__name__}.{name}", f"{__name__}.{_OLD_NAMES[name]}")
    return globals()[_OLD_NAMES[name]]


def _warn_of_old_name(old: str, new: str) -> None:
    warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=3)
