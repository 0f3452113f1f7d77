"""The end of an HTTP response: when the app has sent its error body, raises, or returns.

The three cases differ by the state of the response: see the table in :mod:`flexmw.envelope.state`. The decision about
the error is in :mod:`flexmw.envelope.core`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Final

from anyio import move_on_after

from flexmw.contract.exception_slots import traceback_of
from flexmw.contract.exceptions import ErrorMapping, stems_from
from flexmw.envelope.app_info import handles_crashes, through_cors
from flexmw.envelope.collector import Collector
from flexmw.envelope.core import AppResponse, ErrorResponse, Header, decide, response_to
from flexmw.envelope.crash_log import AppFault, log_fault
from flexmw.envelope.drain import read_rest
from flexmw.envelope.last_body import LastBody
from flexmw.envelope.plan import Plan
from flexmw.envelope.state import State
from flexmw.envelope.stream import LAST_EVENT_SECONDS, Stream
from flexmw.envelope.timer import Timer
from flexmw.envelope.writer import Writer
from flexmw.kit.asgi import ASGIApp, Message, Receive, Scope, Send
from flexmw.kit.exchange import KEY, new_exchange

__all__ = ["NO_START", "UNSENT", "ResponseEnd"]

# Aliases: before Python 3.12 a member looked up on its class costs three times as much.
_WAITING, _PASSING, _STREAMING = State.WAITING, State.PASSING, State.STREAMING
_COLLECTING, _HELD, _DONE = State.COLLECTING, State.HELD, State.DONE

UNSENT: Final = frozenset({_WAITING, _COLLECTING, _HELD})
"""States in which nothing of the response has been sent."""

NO_START: Final[Message] = {}
"""The start of a response whose app has sent none."""

_HTTP_1: Final = frozenset({"1.0", "1.1"})
_CLOSE: Final[Header] = (b"connection", b"close")


class ResponseEnd:
    """The state of one response, and the methods that complete it.

    :ivar merges_headers: True if this component adds the headers of the exchange to the response. Set before the app
        runs, as is ``handled_before``.
    :ivar handled_before: the exception that was being handled when the request came in.
    """

    __slots__ = (
        "_client_left",
        "_collector",
        "_crash",
        "_exchange",
        "_held",
        "_last_body",
        "_outer_app",
        "_passes",
        "_plan",
        "_receive",
        "_request_read",
        "_scope",
        "_send",
        "_sent_error",
        "_start",
        "_state",
        "_stream",
        "_timer",
        "handled_before",
        "merges_headers",
    )

    handled_before: BaseException | None
    merges_headers: bool
    _collector: Collector
    _crash: tuple[BaseException, TracebackType | None] | None
    _held: AppResponse
    _outer_app: ASGIApp | None
    _stream: Stream

    def __init__(self, plan: Plan, scope: Scope, receive: Receive, send: Send) -> None:
        self._exchange = scope.get(KEY) or new_exchange(scope)
        self._plan = plan
        self._scope = scope
        self._receive = receive
        self._send = send
        self._state = _WAITING
        if plan.passthrough:
            self._passes = plan.passes_through(scope)
        self._start: Message = NO_START
        self._client_left = self._request_read = False
        self._timer: Timer | None = None
        self._last_body: LastBody | None = None
        self._sent_error: BaseException | None = None

    async def stop(self) -> None:
        """Stop the timer: nothing is sent for this request any more."""
        if self._timer is not None:
            await self._timer.stop()

    def _get_last_body(self) -> LastBody:
        if self._last_body is None:
            self._last_body = LastBody()
        return self._last_body

    async def _decide(self, *, app_ended: bool = False) -> None:
        """Send the app's error response. A bare 500 is held instead, if its exception may follow."""
        exchange = self._exchange
        response = self._collector.response(self._scope, exchange, self._plan.app)
        error = sys.exception()
        if (handled := getattr(exchange, "handled", None)) is not None:
            exchange.handled = None  # breaks a reference cycle
            if error is None and response.body == handled[1]:
                error = handled[0]
        mapping = self._plan.map_exception(error) if error is not None and error is not self.handled_before else None
        if mapping is not None and mapping.gone:
            self._state, self._client_left, self._sent_error, self._crash = _DONE, True, error, None
            return
        remembered = exchange.remembered
        if mapping is not None and error is not None and remembered is not None and not stems_from(error, remembered):
            remembered = None
        decision = decide(response, self._plan.rules, mapping=mapping, remembered=remembered)
        exception_may_come = mapping is None and not app_ended and response.status == 500 and not decision.kept
        if exception_may_come and decide(response, self._plan.rules).generic:
            self._state, self._held = _HELD, response
            self._get_last_body().mark_sent()
            self._start_timer()
            return
        self._sent_error, self._crash = error, None
        if mapping is not None and error is not None and decision.status >= 500 and not decision.kept:
            # Starlette drops the traceback when its error handler has returned.
            self._crash = None if mapping.intentional else (error, traceback_of(error))
        if mapping is not None and response.status == 500 and not decision.kept:
            await self._send_crash(decision, self._closing(mapping, response.headers))
        else:
            await self._send_error(decision, response.headers, response.body if decision.kept else None)

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = Timer(self._plan.max_wait, self.finish)

    async def _handle_exception(self, error: BaseException) -> bool:
        """Send the error of the app's exception, if the response is not complete.

        :returns: True if the caller need not raise the exception again.
        """
        mapping = self._plan.map_exception(error)
        if mapping.gone:
            self._state = _DONE
            return True
        if self._state in UNSENT and not (mapping.intentional or self._request_read):
            await read_rest(self._scope, self._receive)
        state = self._state
        if state is _DONE or self._client_left:
            return error is self._sent_error and mapping.intentional
        with suppress(OSError):
            if state is _WAITING:
                if not mapping.intentional and handles_crashes(self._outer_app, self._plan.app):
                    return False
                await self._send_crash(response_to(mapping), self._closing(mapping, ()))
            elif state is _HELD:
                await self._send_crash(response_to(mapping), self._closing(mapping, self._held.headers))
            elif state is _COLLECTING:
                await self._decide(app_ended=True)
            elif state is _STREAMING:
                return await self._fail_stream(mapping, error)
            else:
                Writer(self._plan, self._scope).record(response_to(mapping), status=self._start["status"])
                self._exchange.facts["flexmw.response.outcome"] = "failed"
                return False
        return mapping.intentional

    def _closing(self, mapping: ErrorMapping, headers: Iterable[Header]) -> tuple[Header, ...]:
        """The headers of a response after which the exception is raised again, with ``Connection: close`` over HTTP/1.

        uvicorn closes the connection of an app that has raised. A client that is not told sends its next request over
        it, and loses it (RFC 9112 section 9.6).
        """
        is_kept = mapping.intentional or self._scope.get("http_version") not in _HTTP_1
        return tuple(headers) if is_kept else (*headers, _CLOSE)

    async def _fail_stream(self, mapping: ErrorMapping, error: BaseException) -> bool:
        """End a stream whose app has raised. Returns True if the caller need not raise the exception again."""
        stream, start = self._stream, self._start
        if await stream.withhold():
            await self._send_error(response_to(mapping), self._closing(mapping, start["headers"]))
            return mapping.intentional
        self._exchange.facts["flexmw.response.outcome"] = "failed"
        writer = Writer(self._plan, self._scope)
        writer.record(response_to(mapping), status=start["status"])
        self._state = _DONE
        return await stream.fail(error) and mapping.intentional

    async def finish(self) -> None:
        """Complete the response of an app that has returned."""
        state = self._state
        if state is _PASSING or state is _DONE:
            return
        if self._client_left and state is not _STREAMING:
            self._state = _DONE
        elif state is _STREAMING:
            await self._finish_stream()
        elif state is _HELD:
            decision = decide(self._held, self._plan.rules, remembered=self._exchange.remembered)
            await self._send_error(decision, self._held.headers)
        elif state is _COLLECTING:
            await self._decide(app_ended=True)
        else:
            await self._send_no_response()

    async def _finish_stream(self) -> None:
        """End a stream whose app has returned. Without a last body of the app, the stream has failed.

        Quart returns in the middle of a response that takes longer than its timeout.
        """
        if self._stream.held:
            await self._stream.end()
        elif await self._stream.withhold():
            await self._send_no_response()
        elif not self._client_left:
            # The client may have left: an app that catches the OSError of its send returns then.
            with suppress(OSError), move_on_after(LAST_EVENT_SECONDS):
                await self._send({"type": "http.response.body", "body": b"", "more_body": True})
                log_fault(self._scope, AppFault.NO_END)
                error = RuntimeError("no last body")
                await self._fail_stream(self._plan.map_exception(error), error)

    async def _send_no_response(self) -> None:
        log_fault(self._scope, AppFault.NO_RESPONSE)
        await self._send_error(response_to(self._plan.map_exception(RuntimeError("no response"))), ())

    async def _send_crash(self, response: ErrorResponse, headers: tuple[Header, ...]) -> None:
        send_error = partial(self._send_error, response, headers, None)
        apps = self._outer_app, self._plan.app
        await through_cors(self._scope, headers, self._receive, self._send, send_error, *apps)

    async def _send_error(
        self, response: ErrorResponse, headers: Iterable[Header], body: bytes | None = None, send: Send | None = None
    ) -> None:
        """Send a whole error response.

        :param body: the app's body, to send it unchanged; ``None`` to write a body.
        """
        self._state = _DONE
        start = {**self._start, "headers": list(headers)}
        if body is None:
            self._start = NO_START
        await Writer(self._plan, self._scope).write(send or self._send, response, start, body)
