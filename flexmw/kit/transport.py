"""The transports of httpx and httpx2: they run the flows of components and perform their effects.

``flexmw/httpx.py`` and ``flexmw/httpx2.py`` add the base classes of each library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Event
from types import TracebackType
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

import anyio
import anyio.to_thread

from flexmw.contract import redact
from flexmw.errors import ConfigError
from flexmw.kit.attempt import copy_request, observed, observed_async, unobserve
from flexmw.kit.bodies import OnEnd, Replayed, forget, ignore_end
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.deadline import DeadlineBody, timeout_error
from flexmw.kit.drive import Sends, adrive, chain, drive
from flexmw.kit.effects import (
    DEADLINE,
    Discard,
    Effect,
    Follow,
    Observer,
    Read,
    Replace,
    Response,
    RunBlocking,
    Send,
    Sleep,
)
from flexmw.kit.evidence import IN_PROCESS, Evidence
from flexmw.kit.in_process import calls_an_app
from flexmw.kit.response import DRAIN_BYTES, is_broken, is_shared, is_small
from flexmw.kit.validation import check_alone, check_fit

__all__ = [
    "DRAIN_BYTES",
    "DRAIN_SECONDS",
    "AsyncTransportBase",
    "ClientClosed",
    "SyncTransportBase",
    "components_of",
    "copy_request",
    "is_shared",
]

DRAIN_SECONDS: Final = 1.0
"""Reading a discarded body for longer costs more than a new connection."""

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


class _TransportBase(Generic[RequestT, ResponseT]):
    """Components, outermost first, around an inner transport.

    A component with ``around(transport)`` becomes a transport itself, around the components that follow it.
    """

    _default: ClassVar[type]
    _followed: ClassVar[type]

    def __init__(self, *components: Sends, transport: Any = None, clock: Clock = SYSTEM) -> None:
        check_fit(type(self).__name__, components, transport, self._default)
        check_alone((*components, *components_of(transport)))
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
        idle = [(component, getattr(component, "is_idle", None)) for component in self._own]
        self._can_idle = idle if any(is_idle is not None for _, is_idle in idle) else []

    def __repr__(self) -> str:
        return redact(f"{type(self).__name__}({', '.join(map(repr, self.components))}, transport={self.wrapped!r})")

    def _active(self) -> Sequence[Sends]:
        """The components that have something to do now."""
        return [component for component, is_idle in self._can_idle if is_idle is None or not is_idle()]

    def _follow(self, response: Response, on_end: OnEnd, tap: Callable[[bytes], None] | None = None) -> Response:
        if hasattr(response, "_content"):
            forget(response)
        response.stream = self._followed(response.stream, on_end, tap)
        return response

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

    def _replace(self, response: Any, chunks: Sequence[bytes], rest: Any = None) -> Response:
        response.stream = self._followed(Replayed(chunks, rest, response.stream), ignore_end)
        return response  # type: ignore[no-any-return]


class SyncTransportBase(_TransportBase[RequestT, ResponseT]):
    """The blocking transport."""

    def handle_request(self, request: RequestT) -> ResponseT:
        components = self._active() if self._can_idle else self._own
        return drive(chain(components, request), self._perform)  # type: ignore[arg-type,return-value]

    def _perform(self, effect: Effect) -> object:
        match effect:
            case Send():
                if self._closed:
                    raise ClientClosed
                request: Any = effect.request
                observe = effect.observe
                if observe is None:
                    sent = self.wrapped.handle_request(request)
                else:
                    extensions = request.extensions
                    # The timeouts that the flow has set hold a blocking send to the deadline.
                    left = self._time_left(request) if DEADLINE in extensions else None
                    if self._in_process:
                        observe(IN_PROCESS, {})
                    own = extensions.get("trace")
                    try:
                        sent = self.wrapped.handle_request(observed(request, observe, own))
                    finally:
                        if "trace" in extensions:
                            unobserve(extensions, own)
                    if left is not None:
                        sent = self._in_time(sent, request, left)
                return sent if effect.on_end is None else self._follow(sent, effect.on_end)
            case Follow(response, on_end, tap):
                return self._follow(response, on_end, tap)
            case Read():
                return self._read(effect)
            case Replace(response, body):
                forget(response)
                return self._replace(response, [body])
            case Sleep(seconds):
                self._sleep(seconds)
            case RunBlocking(function):
                return function()
            case Discard(response, seconds):
                self._discard(response, min(seconds, DRAIN_SECONDS))
            case _:
                raise _unknown(effect)
        return None

    def _sleep(self, seconds: float) -> None:
        if self._clock is SYSTEM:
            self._closing.wait(seconds)
        else:
            self._clock.sleep(seconds)
        if self._closed:
            raise ClientClosed

    def _read(self, effect: Read) -> bytes | None:
        response: Any = effect.response
        chunks: list[bytes] = []
        size, rest, ends = 0, iter(response.stream), self._clock.monotonic() + effect.seconds
        try:
            for chunk in rest:
                chunks.append(chunk)
                size += len(chunk)
                if size > effect.limit or self._clock.monotonic() > ends:
                    self._replace(response, chunks, rest)
                    return b"".join(chunks) if effect.partial else None
        except BaseException:
            response.close()
            raise
        self._replace(response, chunks)
        return b"".join(chunks)

    def _discard(self, response: Any, seconds: float) -> None:
        size, ends = 0, self._clock.monotonic() + seconds
        try:
            if is_shared(response) or not is_small(response):
                return
            for chunk in response.stream:
                size += len(chunk)
                if size > DRAIN_BYTES or self._clock.monotonic() > ends:
                    break
        except Exception as error:
            if not is_broken(error):
                raise
        finally:
            try:
                response.close()
            except Exception as error:
                if not is_broken(error):
                    raise

    def close(self) -> None:
        self._closed = True
        self._closing.set()
        self.wrapped.close()

    def __enter__(self) -> Self:
        self._closed = False
        self._closing.clear()
        self.wrapped.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._closed = True
        self._closing.set()
        self.wrapped.__exit__(exc_type, exc_value, traceback)


class AsyncTransportBase(_TransportBase[RequestT, ResponseT]):
    """The transport for asyncio and trio."""

    async def handle_async_request(self, request: RequestT) -> ResponseT:
        components = self._active() if self._can_idle else self._own
        return await adrive(chain(components, request), self._perform)  # type: ignore[arg-type,return-value]

    async def _perform(self, effect: Effect) -> object:
        match effect:
            case Send():
                if self._closed:
                    raise ClientClosed
                request: Any = effect.request
                observe = effect.observe
                if observe is None:
                    sent = await self.wrapped.handle_async_request(request)
                elif DEADLINE in request.extensions:
                    sent = await self._send_in_time(request, observe)
                else:
                    if self._in_process:
                        observe(IN_PROCESS, {})
                    extensions = request.extensions
                    own = extensions.get("trace")
                    try:
                        sent = await self.wrapped.handle_async_request(observed_async(request, observe, own))
                    finally:
                        if "trace" in extensions:
                            unobserve(extensions, own)
                return sent if effect.on_end is None else self._follow(sent, effect.on_end)
            case Follow(response, on_end, tap):
                return self._follow(response, on_end, tap)
            case Read():
                return await self._read(effect)
            case Replace(response, body):
                forget(response)
                return self._replace(response, [body])
            case Sleep(seconds):
                await self._sleep(seconds)
            case RunBlocking(function):
                return await anyio.to_thread.run_sync(function, abandon_on_cancel=True)
            case Discard(response, seconds):
                await self._discard(response, min(seconds, DRAIN_SECONDS))
            case _:
                raise _unknown(effect)
        return None

    async def _send_in_time(self, request: Any, observe: Observer) -> Response:
        """Send within the deadline of the call: a cancel scope ends whatever it is that takes longer."""
        left = self._time_left(request)
        evidence = Evidence()

        def observe_both(event: str, details: Mapping[str, Any]) -> None:
            evidence.observe(event, details)
            observe(event, details)

        if self._in_process:
            observe_both(IN_PROCESS, {})
        extensions = request.extensions
        own = extensions.get("trace")
        try:
            with anyio.move_on_after(left()):
                sent = await self.wrapped.handle_async_request(observed_async(request, observe_both, own))
                return self._in_time(sent, request, left)
        finally:
            unobserve(extensions, own)
        if evidence.sent is None and self._reports:
            raise timeout_error(request, "PoolTimeout", f"{_OVER}; the request waited for a connection")
        if evidence.sent is False:
            raise timeout_error(request, "ConnectTimeout", _OVER)
        raise timeout_error(request, "ReadTimeout", _OVER)

    async def _sleep(self, seconds: float) -> None:
        with anyio.CancelScope() as scope:
            self._sleeping.add(scope)
            try:
                await self._clock.asleep(seconds)
            finally:
                self._sleeping.discard(scope)
        if self._closed:
            raise ClientClosed

    async def _read(self, effect: Read) -> bytes | None:
        response: Any = effect.response
        chunks: list[bytes] = []
        size, rest, ends = 0, aiter(response.stream), self._clock.monotonic() + effect.seconds
        try:
            async for chunk in rest:
                chunks.append(chunk)
                size += len(chunk)
                if size > effect.limit or self._clock.monotonic() > ends:
                    self._replace(response, chunks, rest)
                    return b"".join(chunks) if effect.partial else None
        except BaseException:
            with anyio.CancelScope(shield=True):
                await response.aclose()
            raise
        self._replace(response, chunks)
        return b"".join(chunks)

    async def _discard(self, response: Any, seconds: float) -> None:
        size, closed = 0, False
        try:
            if is_shared(response):
                return
            with anyio.move_on_after(seconds):
                async for chunk in response.stream:
                    size += len(chunk)
                    if size > DRAIN_BYTES:
                        # Close while reading: the next step fails and unwinds every generator inside. Leaving the loop
                        # would leave the generators to the garbage collector, which trio reports.
                        closed = True
                        await response.aclose()
        except Exception as error:
            if not (closed or is_broken(error)):
                raise
        finally:
            try:
                await response.aclose()
            except Exception as error:
                if not (closed or is_broken(error)):
                    raise

    async def aclose(self) -> None:
        self._end_waits()
        await self.wrapped.aclose()

    def _end_waits(self) -> None:
        self._closed = True
        for scope in list(self._sleeping):
            scope.cancel()

    async def __aenter__(self) -> Self:
        self._closed = False
        await self.wrapped.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._end_waits()
        await self.wrapped.__aexit__(exc_type, exc_value, traceback)


class ClientClosed(RuntimeError):
    """The client was closed: a wait has ended, and nothing is sent any more."""

    def __init__(self) -> None:
        super().__init__("Cannot send a request, as the client has been closed.")


_OVER: Final = "the deadline of the call is over"


def _too_late(request: Any) -> Exception:
    return timeout_error(request, "PoolTimeout", f"{_OVER}; nothing was sent")


def _unknown(effect: object) -> ConfigError:
    return ConfigError("flow()", effect, "to yield flexmw.Send, flexmw.Sleep or flexmw.Discard")


def components_of(transport: Any) -> Sequence[Sends]:
    """The components of a flexmw transport; empty for any other transport."""
    return transport.components if isinstance(transport, _TransportBase) else ()
