"""HTTP responder: takes the messages that the app sends for one request, and sends at most one response.

A good response is forwarded at once. An error response is collected, decided on by :mod:`flexmw.envelope.core`, and
sent. A bare 500 is held until the app ends, because Starlette sends it first and raises the exception afterwards, and
the exception decides what the error is.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Final

from anyio import move_on_after

from flexmw.contract.exception_slots import traceback_of
from flexmw.contract.exceptions import ErrorMapping, stems_from
from flexmw.contract.stream_framing import framing_of
from flexmw.envelope.app_info import handles_crashes, through_cors
from flexmw.envelope.cancellation import is_answered
from flexmw.envelope.collector import Collector
from flexmw.envelope.core import ErrorResponse, Header, decide, error_status, response_to
from flexmw.envelope.crash_log import log_crash, log_dropped_start, log_no_end, log_no_response, log_second_start
from flexmw.envelope.drain import read_rest
from flexmw.envelope.last_body import LastBody
from flexmw.envelope.plan import Plan
from flexmw.envelope.state import State
from flexmw.envelope.stream import LAST_EVENT_SECONDS, Stream
from flexmw.envelope.timer import Timer
from flexmw.envelope.writer import Writer
from flexmw.kit.asgi import ASGIApp, Message, Receive, Scope, Send
from flexmw.kit.exchange import KEY, dropped, new_exchange

__all__ = ["Responder"]

# Aliases: before Python 3.12 a member looked up on its class costs three times as much.
_WAITING, _PASSING, _STREAMING = State.WAITING, State.PASSING, State.STREAMING
_COLLECTING, _HELD, _DONE = State.COLLECTING, State.HELD, State.DONE

_UNSENT: Final = frozenset({_WAITING, _COLLECTING, _HELD})
"""States in which nothing of the response has been sent."""

_NO_START: Final[Message] = {}
_FILES: Final = frozenset({"http.response.pathsend", "http.response.zerocopysend"})


class Responder:
    """The response to one request.

    The states and what leads from one to the next are in :mod:`flexmw.envelope.state`.

    :ivar merges_headers: True if this component adds the headers of the exchange to the response. Set by :meth:`run`,
        or by the websocket whose denial response this is.
    :ivar handled_before: the exception that was being handled when the request came in. Set like ``merges_headers``.
    """

    __slots__ = (
        "_answered",
        "_collector",
        "_crash",
        "_exchange",
        "_gone",
        "_held",
        "_last_body",
        "_outer_app",
        "_passes",
        "_plan",
        "_read",
        "_receive",
        "_restarted",
        "_scope",
        "_send",
        "_start",
        "_state",
        "_stream",
        "_timer",
        "handled_before",
        "merges_headers",
    )

    def __init__(self, plan: Plan, scope: Scope, receive: Receive, send: Send) -> None:
        self._exchange = scope.get(KEY) or new_exchange(scope)
        self._plan = plan
        self._scope = scope
        self._receive = receive
        self._send = send
        self._state = _WAITING
        if plan.passthrough:
            self._passes = plan.passes_through(scope)
        self._start: Message = _NO_START
        self._gone = self._read = False
        self._timer: Timer | None = None
        self._last_body: LastBody | None = None
        self._answered: BaseException | None = None
        self._crash: tuple[BaseException, TracebackType | None] | None

    async def run(self, app: ASGIApp) -> None:
        """Run the app, and send a response whatever the app does.

        :raises BaseException: what the app raises, unless the exception was intentional and is sent as the response.
        """
        self.handled_before = sys.exception()
        self._outer_app = self._scope.get("app")
        exchange = self._exchange
        outer_mapping = exchange.map_exception
        exchange.map_exception = self._plan.map_exception
        self.merges_headers = merges_headers = not exchange.headers_claimed
        exchange.headers_claimed = True
        exchange.enter()
        try:
            # The inner block of `with exchange:`, which costs two more calls for each request.
            try:
                await app(self._scope, self.receive, self.send)
            finally:
                exchange.leave()
        except BaseException as error:
            if not is_answered(error) or not await self._raised(error):
                raise
        else:
            if self._state is not _DONE and self._state is not _PASSING:
                await self.finish()
            if self._answered is not None and self._crash is not None:
                log_crash(self._scope, *self._crash)
        finally:
            exchange.map_exception = outer_mapping
            exchange.headers_claimed = not merges_headers
            # Breaks the reference cycle between the request and its stream.
            if exchange.stream is not None and exchange.stream is getattr(self, "_stream", None):
                exchange.stream = None
            if self._timer is not None:
                await self.stop()

    async def stop(self) -> None:
        """Stop the timer: nothing is sent for this request any more."""
        if self._timer is not None:
            await self._timer.stop()

    async def receive(self) -> Message:
        """The app's ``receive``."""
        if self._read or self._state is _STREAMING:
            # The app waits for the disconnect. It gets it too where its own last body is kept back.
            message, is_servers = await self._last_body_seen().receive(self._receive)
            if not is_servers:
                return message
        else:
            message = await self._receive()
        if message["type"] == "http.disconnect":
            self._gone = True
            self._exchange.offer_drop(self._drop)
        self._read = not message.get("more_body", False)
        return message

    def _drop(self) -> None:
        """Send nothing more to the server."""
        self._send = dropped
        if self._state is _STREAMING:
            self._stream.drop()

    def _last_body_seen(self) -> LastBody:
        if self._last_body is None:
            self._last_body = LastBody()
        return self._last_body

    def send(self, message: Message) -> Awaitable[None]:
        """The app's ``send``. Not a coroutine: most messages go on to the server's ``send``, whose awaitable the app
        awaits."""
        state = self._state
        kind = message["type"]
        if kind == "http.response.body":
            if state is _PASSING:
                if not message.get("more_body", False):
                    self._state = _DONE
                return self._send(message)
            if state is _STREAMING:
                return self._stream.body(message)
            return self._collect(message) if state is _COLLECTING else _done()
        if kind == "http.response.start":
            return self._begin(message) if state is _WAITING else self._begin_again(message)
        if kind in _FILES:
            return self._file(message)
        if kind == "http.response.trailers":
            return self._trail(message)
        return self._send(message)

    def _begin(self, message: Message) -> Awaitable[None]:
        plan = self._plan
        headers = message.get("headers")
        if type(headers) is not list:
            headers = list(headers or ())
            message = {**message, "headers": headers}
        self._start = message
        status = message.get("status")
        if type(status) is not int or not 100 <= status <= 599:
            status = error_status(status)
        if status < 400:
            framing = framing_of(headers, lines=plan.lines)
        elif (plan.passthrough and self._passes) or (plan.unless is not None and plan.unless(self._scope, status)):
            framing = None
        else:
            self._state = _COLLECTING
            self._collector = Collector(message, plan.rules.max_body)
            return _done()
        exchange = self._exchange
        if exchange.headers and self.merges_headers:
            message = dict(message)
            message["headers"] = exchange.complete(headers)
        if framing is None or self._scope.get("method") == "HEAD":
            self._state = _PASSING
            return self._send(message)
        self._state = _STREAMING
        writer = Writer(plan, self._scope)
        last_unit = partial(writer.last_unit, framing)
        last_body = self._last_body_seen()
        self._stream = Stream(self._send, message, framing, writer.dialect.finished, last_unit, exchange, last_body)
        exchange.stream = self._stream
        if not plan.hold:
            return self._stream.begin()
        if exchange.observers:
            exchange.emit("flexmw.stream.held", {})
        self._timer = Timer(plan.hold, self._stream.open)
        return _done()

    async def _begin_again(self, message: Message) -> None:
        """Handle a second start, which ASGI forbids.

        An error within an event stream is the response of a framework (muffin) to a failure: its body must not look
        like the end of the stream. Any other second start is dropped, and logged once for the request: slowapi sends
        the first start again before each part of a body.
        """
        status = message.get("status")
        if self._state is _STREAMING and type(status) is int and status >= 400:
            error = sys.exception()  # the one that the framework handles
            if error is None or error is self.handled_before:
                made = self._exchange.remembered
                error = made if made is not None and made.status == status else RuntimeError("second start")
            mapping = self._plan.map_exception(error)
            if not (self._gone or mapping.intentional):
                log_second_start(self._scope, status)
            await self._fail_stream(mapping, error)
            self._state = _DONE
        elif not (self._gone or hasattr(self, "_restarted")):
            self._restarted = True
            log_dropped_start(self._scope, status)

    async def _file(self, message: Message) -> None:
        """A body that the server reads from a file (ASGI extensions pathsend and zerocopysend)."""
        if self._state is _STREAMING and not self._stream.held:
            await self._stream.let_go()
            self._state = _PASSING
        last = not message.get("more_body", False)
        if self._state is _PASSING:
            if last:
                self._state = _DONE
            await self._send(message)
        elif self._state is _COLLECTING and last:
            await self._collect({"type": "http.response.body", "body": b""})

    async def _trail(self, message: Message) -> None:
        if self._state is _STREAMING:
            await self._stream.trail(message)
        elif self._start.get("trailers") and self._state not in _UNSENT:
            await self._send(message)

    async def _collect(self, message: Message) -> None:
        self._collector.add(message.get("body") or b"")
        if message.get("more_body", False) and not self._collector.is_full:
            self._start_timer()
        else:
            await self._decide()

    async def _decide(self, *, app_ended: bool = False) -> None:
        """Send the app's error response; or hold it, if it is a bare 500 and its exception is still to come."""
        response = self._collector.response(self._scope, self._exchange, self._plan.app)
        error = sys.exception()
        mapping = self._plan.map_exception(error) if error is not None and error is not self.handled_before else None
        if mapping is not None and mapping.gone:
            self._state, self._gone, self._answered, self._crash = _DONE, True, error, None
            return
        remembered = self._exchange.remembered
        if mapping is not None and error is not None and remembered is not None and not stems_from(error, remembered):
            remembered = None
        decision = decide(response, self._plan.rules, mapping=mapping, remembered=remembered)
        exception_may_come = mapping is None and not app_ended and response.status == 500 and not decision.kept
        if exception_may_come and decide(response, self._plan.rules).generic:
            self._state, self._held = _HELD, response
            self._last_body_seen().sent()
            self._start_timer()
            return
        self._answered, self._crash = error, None
        if mapping is not None and error is not None and decision.status >= 500 and not decision.kept:
            # Starlette drops the traceback when its error handler has returned.
            self._crash = None if mapping.intentional else (error, traceback_of(error))
        if mapping is not None and response.status == 500 and not decision.kept:
            await self._send_crash(decision, response.headers)
        else:
            await self._send_error(decision, response.headers, response.body if decision.kept else None)

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = Timer(self._plan.max_wait, self.finish)

    async def _raised(self, error: BaseException) -> bool:
        """Send the error of an exception that the app has raised, as far as the response can still carry it.

        :returns: True if the exception is not to be raised again.
        """
        mapping = self._plan.map_exception(error)
        if mapping.gone:
            self._state = _DONE
            return True
        if self._state in _UNSENT and not (mapping.intentional or self._read):
            await read_rest(self._scope, self._receive)
        state = self._state
        if state is _DONE or self._gone:
            return error is self._answered and mapping.intentional
        with suppress(OSError):
            if state is _WAITING:
                if not mapping.intentional and handles_crashes(self._outer_app, self._plan.app):
                    return False
                await self._send_crash(response_to(mapping), ())
            elif state is _HELD:
                await self._send_crash(response_to(mapping), self._held.headers)
            elif state is _COLLECTING:
                await self._decide(app_ended=True)
            elif state is _STREAMING:
                return await self._fail_stream(mapping, error)
            else:
                Writer(self._plan, self._scope).record(response_to(mapping), status=self._start["status"])
                self._exchange.facts["flexmw.response.outcome"] = "failed"
                return False
        return mapping.intentional

    async def _fail_stream(self, mapping: ErrorMapping, error: BaseException) -> bool:
        """End a stream whose app has raised. Returns True if the exception is not to be raised again."""
        stream, start = self._stream, self._start
        if await stream.withhold():
            await self._send_error(response_to(mapping), start["headers"])
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
        if self._gone and state is not _STREAMING:
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
        """End a stream whose app has returned, as a failed one if the app has sent no last body.

        Quart, for one, ends a response that takes longer than its timeout by a return.
        """
        if self._stream.held:
            await self._stream.end()
        elif await self._stream.withhold():
            await self._send_no_response()
        elif not self._gone:
            # An app that has caught the OSError of its own send has returned for a client that has left.
            with suppress(OSError), move_on_after(LAST_EVENT_SECONDS):
                await self._send({"type": "http.response.body", "body": b"", "more_body": True})
                log_no_end(self._scope)
                error = RuntimeError("no last body")
                await self._fail_stream(self._plan.map_exception(error), error)

    async def _send_no_response(self) -> None:
        log_no_response(self._scope)
        await self._send_error(response_to(self._plan.map_exception(RuntimeError("no response"))), ())

    async def _send_crash(self, response: ErrorResponse, headers: tuple[Header, ...]) -> None:
        send_error = partial(self._send_error, response, headers, None)
        await through_cors(self._scope, headers, self._receive, self._send, send_error)

    async def _send_error(
        self, response: ErrorResponse, headers: Iterable[Header], body: bytes | None = None, send: Send | None = None
    ) -> None:
        """Send a whole error response. ``body`` is the app's body, if that goes out unchanged."""
        self._state = _DONE
        start = {**self._start, "headers": list(headers)}
        if body is None:
            self._start = _NO_START
        await Writer(self._plan, self._scope).write(send or self._send, response, start, body)


async def _done() -> None:
    """What ``send`` returns for a message of which nothing is sent now."""
