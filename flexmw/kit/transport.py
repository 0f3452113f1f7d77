"""The common part of the transports of httpx and httpx2, which run the flows of components and perform their effects.

:mod:`flexmw.kit.transport_blocking` and :mod:`flexmw.kit.transport_async` perform the effects; ``flexmw/httpx.py`` and
``flexmw/httpx2.py`` add the base classes of each library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event
from types import MethodType
from typing import Any, ClassVar, Final, Generic, TypeVar

import anyio

from flexmw.contract import redact
from flexmw.errors import ConfigError
from flexmw.kit.attempt import copy_request
from flexmw.kit.bodies import Broken, OnEnd, Replayed, forget, ignore_end
from flexmw.kit.chain import Sends
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.deadline import DeadlineBody, timeout_error
from flexmw.kit.effects import DEADLINE, Flow, Read, Response, Resume
from flexmw.kit.first_send import FirstSend, begin_of, rest_of
from flexmw.kit.in_process import calls_an_app
from flexmw.kit.inner_transports import inner_transports
from flexmw.kit.response import DRAIN_BYTES, is_shared
from flexmw.kit.validation import check_alone, check_fit, check_library

__all__ = [
    "DEADLINE_IS_OVER",
    "DRAIN_BYTES",
    "DRAIN_SECONDS",
    "ClientClosed",
    "TransportBase",
    "components_of",
    "copy_request",
    "inner_components",
    "is_shared",
    "unknown_effect",
]

DRAIN_SECONDS: Final = 1.0
"""Reading a discarded body for longer costs more than a new connection."""

DEADLINE_IS_OVER: Final = "the deadline of the call is over"

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


class TransportBase(Generic[RequestT, ResponseT]):
    """Components, outermost first, around an inner transport.

    A component with ``around(transport)`` becomes a transport itself, around the components that follow it.
    """

    _default: ClassVar[type]
    _method: ClassVar[str]
    _followed: ClassVar[type]
    _resumed: ClassVar[type]

    def __init__(self, *components: Sends, transport: Any = None, clock: Clock = SYSTEM) -> None:
        check_fit(type(self).__name__, components, transport, self._default)
        check_alone(components, inner_components(transport))
        self.components = self._own = components
        self.wrapped: Any = self._default() if transport is None else transport
        self._clock = clock
        self._in_process = calls_an_app(self.wrapped)
        self._reports = isinstance(self.wrapped, self._default)
        self._closed = False
        self._closing = Event()
        self._sleeping: set[anyio.CancelScope] = set()
        for place, component in enumerate(components):
            if around := getattr(component, "around", None):
                self._own = components[:place]
                self.wrapped = around(type(self)(*components[place + 1 :], transport=self.wrapped, clock=clock))
                break
        self._may_repeat = _may_repeat(self.wrapped, self._default)
        idle = [(component, getattr(component, "is_idle", None)) for component in self._own]
        self._with_idle: Sequence[tuple[Sends, Callable[[], bool] | None]] = idle
        self._can_idle: Sequence[Callable[[], bool]] = [is_idle for _, is_idle in idle if is_idle is not None]
        self._always: Sequence[Sends] = [component for component, is_idle in idle if is_idle is None]
        quick = len(self._always) == 1 and not self._in_process and not self._may_repeat
        self._begin = begin_of(self._always[0]) if quick else None
        self.__dict__[self._method] = self._first_call

    def _first_call(self, request: Any) -> Any:
        """Send the first request, after :meth:`_check_first_call`.

        An attribute of the object has the name of the method that sends a request, and refers to this method, until a
        request has passed the check. So no later call pays for the check.
        """
        raise NotImplementedError

    def _check_first_call(self, request: Any) -> None:
        """Refuse a request of the other library: its client would execute the request, and then fail.

        :raises ConfigError: the request is one of the other library.
        """
        check_library(self, request, self._default)
        # An instrumentation may have replaced the attribute, and another thread may remove it at the same time.
        if self._is_first_call(self.__dict__.get(self._method)):
            self.__dict__.pop(self._method, None)

    def _is_first_call(self, method: Any) -> bool:
        # By the type, because the wrapper of an instrumentation (wrapt) is equal to what it wraps.
        return type(method) is MethodType and method == self._first_call

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy, which does not refer to :meth:`_first_call` of this transport."""
        own, is_first_call = self._method, self._is_first_call
        return {name: value for name, value in self.__dict__.items() if name != own or not is_first_call(value)}

    def __repr__(self) -> str:
        return redact(f"{type(self).__name__}({', '.join(map(repr, self.components))}, transport={self.wrapped!r})")

    def _active(self) -> Sequence[Sends]:
        """The components that have something to do now."""
        for is_idle in self._can_idle:
            if not is_idle():
                break
        else:
            return self._always
        return [component for component, is_idle in self._with_idle if is_idle is None or not is_idle()]

    def _rest(self, first: FirstSend, response: Response | None, error: BaseException | None) -> Flow:
        """The flow of a call that its first send has not ended."""
        return rest_of(first, self._always[0], response, error)

    def _follow(self, response: Response, on_end: OnEnd, tap: Callable[[bytes], None] | None = None) -> Response:
        if hasattr(response, "_content"):
            forget(response)
        response.stream = self._followed(response.stream, on_end, tap)
        return response

    def _resume(self, effect: Resume, perform: Callable[[Any], Any]) -> Response:
        """Let a body be continued, unless it is in memory: such a body cannot break."""
        response: Any = effect.response
        if "_content" not in response.__dict__:
            response.stream = self._resumed(response.stream, effect.again, effect.tap, perform)
        return response  # type: ignore[no-any-return]

    def _time_left(self, request: Any) -> Callable[[], float]:
        """A function that returns the seconds until the deadline of the call.

        :raises Exception: a timeout of the library; the deadline is over.
        """
        ends: float = request.extensions[DEADLINE]

        def left() -> float:
            return ends - self._clock.monotonic()

        if left() <= 0:
            raise _too_late(request)
        return left

    def _in_time(self, response: Any, request: Any, left: Callable[[], float]) -> Response:
        if "_content" in response.__dict__:
            return response  # type: ignore[no-any-return]
        body = DeadlineBody(response.stream, request, left, own_connection=not is_shared(response))
        response.stream = self._followed(body, ignore_end)
        return response  # type: ignore[no-any-return]

    def _bounded(self, effect: Read, ends: float) -> Any:
        """The body that a :class:`Read` reads: it breaks in time if the flow needs no slow body."""
        stream: Any = effect.response.stream
        if effect.request is None:
            return stream
        clock, own = self._clock, not is_shared(effect.response)
        return DeadlineBody(stream, effect.request, lambda: ends - clock.monotonic(), own_connection=own)

    def _given_up(self, effect: Read, ends: float, error: BaseException) -> Broken | None:
        """The rest of a body whose time was over; ``None`` if ``error`` has another cause."""
        if effect.request is None or self._clock.monotonic() < ends or type(error).__name__ != "ReadTimeout":
            return None
        message = f"the body did not arrive within {effect.seconds:g} s"
        return Broken(timeout_error(effect.request, "ReadTimeout", message))

    def _replace(self, response: Any, chunks: Sequence[bytes], rest: Any = None) -> Response:
        response.stream = self._followed(Replayed(chunks, rest, response.stream), ignore_end)
        return response  # type: ignore[no-any-return]


class ClientClosed(RuntimeError):
    """The client was closed: a wait has ended, and nothing is sent any more."""

    def __init__(self) -> None:
        super().__init__("Cannot send a request, as the client has been closed.")


def _too_late(request: Any) -> Exception:
    return timeout_error(request, "PoolTimeout", f"{DEADLINE_IS_OVER}; nothing was sent")


def unknown_effect(effect: object) -> ConfigError:
    """The error of a flow that yields an object that is not an effect."""
    return ConfigError("flow()", effect, "to yield flexmw.Send, flexmw.Sleep or flexmw.Discard")


def _may_repeat(transport: Any, default: type) -> bool:
    """Return whether a transport may send one request several times to a server.

    The transports of the client's library do not. Every other transport may: it need not hold the transport below in an
    attribute, because it may make one for each request, or use a client.
    """
    if isinstance(transport, TransportBase):
        return transport._may_repeat
    return type(transport).__module__ != default.__module__


def components_of(transport: Any) -> Sequence[Sends]:
    """The components of a flexmw transport; empty for any other transport."""
    return transport.components if isinstance(transport, TransportBase) else ()


def inner_components(transport: Any) -> Sequence[Sends]:
    """The components of a flexmw transport and of every one that the transport wraps, outermost first."""
    by_id: dict[int, Sends] = {}
    for inner in inner_transports(transport):
        by_id.update((id(component), component) for component in components_of(inner))
    return list(by_id.values())
