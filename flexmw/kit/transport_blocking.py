"""The blocking transport of httpx and httpx2."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from flexmw.kit.attempt import observed, unobserve
from flexmw.kit.bodies import forget
from flexmw.kit.chain import run
from flexmw.kit.clock import SYSTEM
from flexmw.kit.drive import drive
from flexmw.kit.effects import (
    DEADLINE,
    Discard,
    Effect,
    Follow,
    Read,
    Replace,
    Resume,
    RunBlocking,
    Send,
    Skip,
    Sleep,
)
from flexmw.kit.evidence import IN_PROCESS
from flexmw.kit.repetition import observed_repeats
from flexmw.kit.response import DRAIN_BYTES, is_broken, is_shared, is_small
from flexmw.kit.transport import (
    DRAIN_SECONDS,
    ClientClosed,
    RequestT,
    ResponseT,
    TransportBase,
    unknown_effect,
)

__all__ = ["SyncTransportBase"]


class SyncTransportBase(TransportBase[RequestT, ResponseT]):
    """The blocking transport."""

    _method = "handle_request"

    def _first_call(self, request: RequestT) -> ResponseT:
        self._check_first_call(request)
        return type(self).handle_request(self, request)

    def handle_request(self, request: RequestT) -> ResponseT:
        components = self._active() if self._can_idle else self._always
        begin = self._begin
        if begin is None or components is not self._always or (first := begin(request)) is None:
            return run(components, request, self._perform)  # type: ignore[arg-type,return-value]
        if self._closed:
            raise ClientClosed
        attempt = first.request
        extensions = attempt.extensions
        extensions["trace"] = first.trace
        try:
            sent = self.wrapped.handle_request(attempt)
        except BaseException as error:
            rest = self._rest(first, None, error)
        else:
            extensions.pop("trace", None)
            response = self._follow(sent, first.on_end)
            if first.finish(response):
                return response  # type: ignore[return-value]
            rest = self._rest(first, response, None)
        return drive(rest, self._perform)  # type: ignore[return-value]

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
                        observe_in = observed_repeats if self._may_repeat else observed
                        sent = self.wrapped.handle_request(observe_in(request, observe, own))
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
            case Skip(response, size, tap):
                return self._skip(response, size, tap)
            case Resume():
                return self._resume(effect, self._perform)
            case Discard(response, seconds):
                self._discard(response, min(seconds, DRAIN_SECONDS))
            case _:
                raise unknown_effect(effect)
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
        until = effect.until
        size, ends = 0, self._clock.monotonic() + effect.seconds
        rest = iter(self._bounded(effect, ends))
        try:
            for chunk in rest:
                chunks.append(chunk)
                size += len(chunk)
                at_mark = until is not None and until(chunk)
                if at_mark or size > effect.limit or self._clock.monotonic() > ends:
                    self._replace(response, chunks, rest)
                    return b"".join(chunks) if effect.partial else None
        except BaseException as error:
            if (broken := self._given_up(effect, ends, error)) is not None:
                response.stream.close()
                self._replace(response, chunks, broken)
                return b"".join(chunks) if effect.partial else None
            response.close()
            raise
        self._replace(response, chunks)
        return b"".join(chunks)

    def _skip(self, response: Any, size: int, tap: Callable[[bytes], object] | None) -> int:
        left, rest = size, iter(response.stream)
        try:
            while left and (chunk := next(rest, None)) is not None:
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
            response.close()
            raise
        return size - left

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
