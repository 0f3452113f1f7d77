"""The transports of httpx and httpx2: they run the flows of components and perform their effects.

``flexmw/httpx.py`` and ``flexmw/httpx2.py`` add the base classes of each library.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

import anyio
import anyio.to_thread

from flexmw.contract import redact
from flexmw.errors import ConfigError
from flexmw.kit.bodies import Replayed, forget, ignore_end
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.drive import Sends, adrive, chain, drive
from flexmw.kit.effects import (
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
    head_leaves,
)
from flexmw.kit.evidence import IN_PROCESS, is_transport_error
from flexmw.kit.validation import check_alone, check_fit

__all__ = [
    "DRAIN_BYTES",
    "DRAIN_SECONDS",
    "AsyncTransportBase",
    "SyncTransportBase",
    "components_of",
    "copy_request",
    "is_shared",
]

DRAIN_BYTES: Final = 64 * 1024
DRAIN_SECONDS: Final = 1.0
"""Reading a discarded body to its end saves the connection. Above these bounds a new connection is cheaper."""

_LAST: Final = "http11.send_request_headers.started"
"""From here on, over HTTP/1.1, only the failure of this very step matters. (Over HTTP/2 the pool may send the request
again on another stream.)"""
_LAST_FAILED: Final = "http11.send_request_headers.failed"

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


def copy_request(request: Any, **extensions: Any) -> Any:
    """The same request with its own headers and extensions, so that an attempt can change them."""
    twin = _with_extensions(request, extensions)
    twin.headers = type(request.headers)(request.headers)
    return twin


def _with_extensions(request: Any, extensions: dict[str, Any]) -> Any:
    """Copy the instance dictionary, which is the whole state of a request in both libraries. A constructor would parse
    everything again, and ``copy.copy`` drops the stream."""
    twin = object.__new__(type(request))
    twin.__dict__.update(request.__dict__)
    twin.extensions = {**request.extensions, **extensions}
    return twin


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
        self._in_process = _calls_an_app(self.wrapped)
        for place, component in enumerate(components):
            if around := getattr(component, "around", None):
                self._own = components[:place]
                self.wrapped = around(type(self)(*components[place + 1 :], transport=self.wrapped, clock=clock))
                break

    def __repr__(self) -> str:
        return redact(f"{type(self).__name__}({', '.join(map(repr, self.components))}, transport={self.wrapped!r})")

    def _follow(self, effect: Follow) -> Response:
        if "_content" in effect.response.__dict__:
            forget(effect.response)
        effect.response.stream = self._followed(effect.response.stream, effect.on_end, effect.tap)
        return effect.response

    def _replace(self, response: Any, chunks: Sequence[bytes], rest: Any = None) -> Response:
        response.stream = self._followed(Replayed(chunks, rest, response.stream), ignore_end)
        return response  # type: ignore[no-any-return]


class SyncTransportBase(_TransportBase[RequestT, ResponseT]):
    """The blocking transport."""

    def handle_request(self, request: RequestT) -> ResponseT:
        return drive(chain(self._own, request), self._perform)  # type: ignore[arg-type,return-value]

    def _perform(self, effect: Effect) -> object:
        match effect:
            case Send():
                if self._in_process and effect.observe:
                    effect.observe(IN_PROCESS, {})
                return self.wrapped.handle_request(_watched(effect.request, effect.observe))
            case Follow():
                return self._follow(effect)
            case Read(response, limit):
                return self._read(response, limit)
            case Replace(response, body):
                forget(response)
                return self._replace(response, [body])
            case Sleep(seconds):
                self._clock.sleep(seconds)
            case RunBlocking(function):
                return function()
            case Discard(response, seconds):
                self._discard(response, min(seconds, DRAIN_SECONDS))
            case _:
                raise _unknown(effect)
        return None

    def _read(self, response: Any, limit: int) -> bytes | None:
        chunks: list[bytes] = []
        size, rest = 0, iter(response.stream)
        try:
            for chunk in rest:
                chunks.append(chunk)
                size += len(chunk)
                if size > limit:
                    self._replace(response, chunks, rest)
                    return None
        except BaseException:
            response.close()
            raise
        self._replace(response, chunks)
        return b"".join(chunks)

    def _discard(self, response: Any, seconds: float) -> None:
        size, ends = 0, self._clock.monotonic() + seconds
        try:
            if is_shared(response):
                return
            for chunk in response.stream:
                size += len(chunk)
                if size > DRAIN_BYTES or self._clock.monotonic() > ends:
                    break
        except Exception as error:
            if not _is_broken(error):
                raise
        finally:
            try:
                response.close()
            except Exception as error:
                if not _is_broken(error):
                    raise

    def close(self) -> None:
        self.wrapped.close()

    def __enter__(self) -> Self:
        self.wrapped.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.wrapped.__exit__(exc_type, exc_value, traceback)


class AsyncTransportBase(_TransportBase[RequestT, ResponseT]):
    """The transport for asyncio and trio."""

    async def handle_async_request(self, request: RequestT) -> ResponseT:
        return await adrive(chain(self._own, request), self._perform)  # type: ignore[arg-type,return-value]

    async def _perform(self, effect: Effect) -> object:
        match effect:
            case Send():
                if self._in_process and effect.observe:
                    effect.observe(IN_PROCESS, {})
                return await self.wrapped.handle_async_request(_awatched(effect.request, effect.observe))
            case Follow():
                return self._follow(effect)
            case Read(response, limit):
                return await self._read(response, limit)
            case Replace(response, body):
                forget(response)
                return self._replace(response, [body])
            case Sleep(seconds):
                await self._clock.asleep(seconds)
            case RunBlocking(function):
                return await anyio.to_thread.run_sync(function, abandon_on_cancel=True)
            case Discard(response, seconds):
                await self._discard(response, min(seconds, DRAIN_SECONDS))
            case _:
                raise _unknown(effect)
        return None

    async def _read(self, response: Any, limit: int) -> bytes | None:
        chunks: list[bytes] = []
        size, rest = 0, aiter(response.stream)
        try:
            async for chunk in rest:
                chunks.append(chunk)
                size += len(chunk)
                if size > limit:
                    self._replace(response, chunks, rest)
                    return None
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
            if not (closed or _is_broken(error)):
                raise
        finally:
            try:
                await response.aclose()
            except Exception as error:
                if not (closed or _is_broken(error)):
                    raise

    async def aclose(self) -> None:
        await self.wrapped.aclose()

    async def __aenter__(self) -> Self:
        await self.wrapped.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.wrapped.__aexit__(exc_type, exc_value, traceback)


def _watched(request: Any, observe: Observer | None) -> Any:
    if observe is None:
        return request
    own = request.extensions.get("trace")
    known = False

    def trace(event: str, details: dict[str, Any]) -> None:
        nonlocal known
        if own is not None:
            own(event, details)
        if known:
            if event == _LAST_FAILED:
                observe(event, details)
            return
        if event == _LAST and head_leaves(event, details):
            known = True
            if own is None:
                twin.extensions.pop("trace", None)  # the transport need not report the rest
        observe(event, details)

    twin = _with_extensions(request, {"trace": trace})
    return twin


def _awatched(request: Any, observe: Observer | None) -> Any:
    if observe is None:
        return request
    own = request.extensions.get("trace")
    known = False

    async def trace(event: str, details: dict[str, Any]) -> None:
        nonlocal known
        if own is not None:
            await own(event, details)
        if known:
            if event == _LAST_FAILED:
                observe(event, details)
            return
        if event == _LAST and head_leaves(event, details):
            known = True
            if own is None:
                twin.extensions.pop("trace", None)
        observe(event, details)

    twin = _with_extensions(request, {"trace": trace})
    return twin


def is_shared(response: Any) -> bool:
    """Whether a response came over HTTP/2, on a connection that carries other calls too.

    Nothing of such a response is read that nobody wants: a blocking client could end the read only by a timeout, and
    httpcore ends the whole connection with it, other calls included.
    """
    return getattr(response, "extensions", _NOTHING).get("http_version") == b"HTTP/2"


_NOTHING: Final[dict[str, Any]] = {}


def _is_broken(error: Exception) -> bool:
    """Whether an error says that a response that is given up broke or could not be closed, which matters to nobody.

    Anything else is not about the response: a time limit that is raised into the call, for instance, which may well be
    a ``TimeoutError``.
    """
    return is_transport_error(error) or (isinstance(error, OSError) and not isinstance(error, TimeoutError))


_APP_TRANSPORTS: Final = frozenset({"ASGITransport", "WSGITransport", "_TestClientTransport"})


def _calls_an_app(transport: Any) -> bool:
    """Whether a transport, or one that it wraps, calls an app in this process.

    Such an app may raise the error of a call of its own, a refused connection for instance: the error says nothing
    about the request that the app was given.
    """
    for _ in range(8):
        if not _APP_TRANSPORTS.isdisjoint(cls.__name__ for cls in type(transport).__mro__):
            return True
        inner = vars(transport) if hasattr(transport, "__dict__") else {}
        transport = next((inner[name] for name in _INNER if inner.get(name) is not None), None)
        if transport is None:
            return False
    return False


_INNER: Final = ("wrapped", "_wrapped", "_transport", "transport", "next_transport", "_inner", "inner", "_next")
"""The attributes in which transports keep the one that they wrap."""


def _unknown(effect: object) -> ConfigError:
    return ConfigError("flow()", effect, "to yield flexmw.Send, flexmw.Sleep or flexmw.Discard")


def components_of(transport: Any) -> Sequence[Sends]:
    """The components of a flexmw transport; empty for any other transport."""
    return transport.components if isinstance(transport, _TransportBase) else ()
