"""The transport of httpx and httpx2 for asyncio and trio."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.to_thread

from flexmw.kit.attempt import observed_async, unobserve
from flexmw.kit.bodies import forget
from flexmw.kit.chain import arun
from flexmw.kit.deadline import timeout_error
from flexmw.kit.drive import adrive
from flexmw.kit.effects import (
    DEADLINE,
    Discard,
    Effect,
    Follow,
    Observer,
    Read,
    Replace,
    Response,
    Resume,
    RunBlocking,
    Send,
    Skip,
    Sleep,
)
from flexmw.kit.evidence import IN_PROCESS, Evidence
from flexmw.kit.repetition import observed_repeats_async
from flexmw.kit.response import DRAIN_BYTES, is_broken, is_shared
from flexmw.kit.transport import (
    DEADLINE_IS_OVER,
    DRAIN_SECONDS,
    ClientClosed,
    RequestT,
    ResponseT,
    TransportBase,
    unknown_effect,
)

__all__ = ["AsyncTransportBase"]


class AsyncTransportBase(TransportBase[RequestT, ResponseT]):
    """The transport for asyncio and trio."""

    _method = "handle_async_request"

    async def _first_call(self, request: RequestT) -> ResponseT:
        self._check_first_call(request)
        return await type(self).handle_async_request(self, request)

    async def handle_async_request(self, request: RequestT) -> ResponseT:
        components = self._active() if self._can_idle else self._always
        begin = self._begin
        if begin is None or components is not self._always or (first := begin(request)) is None:
            return await arun(components, request, self._perform)  # type: ignore[arg-type,return-value]
        if self._closed:
            raise ClientClosed
        attempt = first.request
        extensions = attempt.extensions
        extensions["trace"] = first.atrace
        try:
            sent = await self.wrapped.handle_async_request(attempt)
        except BaseException as error:
            rest = self._rest(first, None, error)
        else:
            extensions.pop("trace", None)
            response = self._follow(sent, first.on_end)
            if first.finish(response):
                return response  # type: ignore[return-value]
            rest = self._rest(first, response, None)
        return await adrive(rest, self._perform)  # type: ignore[arg-type]

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
                        observe_in = observed_repeats_async if self._may_repeat else observed_async
                        sent = await self.wrapped.handle_async_request(observe_in(request, observe, own))
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
            case Skip(response, size, tap):
                return await self._skip(response, size, tap)
            case Resume():
                return self._resume(effect, self._perform)
            case Discard(response, seconds):
                await self._discard(response, min(seconds, DRAIN_SECONDS))
            case _:
                raise unknown_effect(effect)
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
                observe_in = observed_repeats_async if self._may_repeat else observed_async
                sent = await self.wrapped.handle_async_request(observe_in(request, observe_both, own))
                return self._in_time(sent, request, left)
        finally:
            unobserve(extensions, own)
        if evidence.sent is None and self._reports:
            raise timeout_error(request, "PoolTimeout", f"{DEADLINE_IS_OVER}; the request waited for a connection")
        if evidence.sent is False:
            raise timeout_error(request, "ConnectTimeout", DEADLINE_IS_OVER)
        raise timeout_error(request, "ReadTimeout", DEADLINE_IS_OVER)

    async def _sleep(self, seconds: float) -> None:
        if self._closed:  # while the attempt before was under way: nothing would end this wait
            raise ClientClosed
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
        until = effect.until
        size, ends = 0, self._clock.monotonic() + effect.seconds
        rest = aiter(self._bounded(effect, ends))
        try:
            async for chunk in rest:
                chunks.append(chunk)
                size += len(chunk)
                at_mark = until is not None and until(chunk)
                if at_mark or size > effect.limit or self._clock.monotonic() > ends:
                    self._replace(response, chunks, rest)
                    return b"".join(chunks) if effect.partial else None
        except BaseException as error:
            if (broken := self._given_up(effect, ends, error)) is not None:
                self._replace(response, chunks, broken)
                return b"".join(chunks) if effect.partial else None
            with anyio.CancelScope(shield=True):
                await response.aclose()
            raise
        self._replace(response, chunks)
        return b"".join(chunks)

    async def _skip(self, response: Any, size: int, tap: Callable[[bytes], object] | None) -> int:
        left, rest = size, aiter(response.stream)
        try:
            while left and (chunk := await anext(rest, None)) is not None:
                dropped, kept = chunk[:left], chunk[left:]
                left -= len(dropped)
                if tap is not None:
                    tap(dropped)
                if not left:
                    self._replace(response, [kept] if kept else [], rest)
                    return size
            if left:
                self._replace(response, [])
        except BaseException:
            with anyio.CancelScope(shield=True):
                await response.aclose()
            raise
        return size - left

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
