"""HTTP responder: takes the messages that the app sends for one request, and sends at most one response.

A good response is forwarded at once. An error response is collected, decided on by :mod:`flexmw.envelope.core`, and
sent. A bare 500 is held until the app ends, because Starlette sends it first and raises the exception afterwards, and
the exception decides what the error is.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from functools import partial
from typing import Final

from flexmw.contract.stream_framing import framing_of
from flexmw.envelope.cancellation import ends_with_server, needs_response
from flexmw.envelope.collector import Collector
from flexmw.envelope.core import error_status
from flexmw.envelope.crash_log import AppFault, log_crash, log_fault, log_raised
from flexmw.envelope.response_end import UNSENT, ResponseEnd
from flexmw.envelope.state import State
from flexmw.envelope.stream import Stream
from flexmw.envelope.timer import Timer
from flexmw.envelope.writer import Writer
from flexmw.kit.asgi import ASGIApp, Message
from flexmw.kit.exchange import dropped

__all__ = ["Responder"]

# Aliases: before Python 3.12 a member looked up on its class costs three times as much.
_WAITING, _PASSING, _STREAMING = State.WAITING, State.PASSING, State.STREAMING
_COLLECTING, _HELD, _DONE = State.COLLECTING, State.HELD, State.DONE

_FILES: Final = frozenset({"http.response.pathsend", "http.response.zerocopysend"})


class Responder(ResponseEnd):
    """The response to one request.

    The states and the transitions between them are in :mod:`flexmw.envelope.state`.
    """

    __slots__ = ("_restarted",)

    async def run(self, app: ASGIApp) -> None:
        """Run the app, and send a response in any case.

        :raises BaseException: the app's exception, unless the exception was intentional and is sent as the response.
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
            ends = ends_with_server(error)
            if not (ends or needs_response(error)):
                raise
            is_owed = not (ends or self._state is _DONE or self._client_left)
            if not await self._handle_exception(error):
                if is_owed:  # else an Envelope further in has logged it
                    log_raised(self._scope, error)
                raise
        else:
            if self._state is not _DONE and self._state is not _PASSING:
                await self.finish()
            if self._sent_error is not None and self._crash is not None:
                log_crash(self._scope, *self._crash)
        finally:
            exchange.map_exception = outer_mapping
            exchange.headers_claimed = not merges_headers
            # Breaks the reference cycle between the request and its stream.
            if exchange.stream is not None and exchange.stream is getattr(self, "_stream", None):
                exchange.stream = None
            if self._timer is not None:
                await self.stop()

    async def receive(self) -> Message:
        """The app's ``receive``."""
        if self._request_read or self._state is _STREAMING:
            # The app waits for the disconnect, and must get it even while the Envelope holds the app's last body.
            message, is_servers = await self._get_last_body().receive(self._receive)
            if not is_servers:
                return message
        else:
            message = await self._receive()
        if message["type"] == "http.disconnect":
            self._client_left = True
            self._exchange.offer_drop(self._drop)
        self._request_read = not message.get("more_body", False)
        return message

    def _drop(self) -> None:
        """Send nothing more to the server."""
        self._send = dropped
        if self._state is _STREAMING:
            self._stream.drop()

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
        last_body = self._get_last_body()
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

        An error within a good response is that of a framework (muffin) to a failure: its body must not look like the
        end of the response. An event stream ends with an error event; any other response is cut. Any other second start
        is dropped, and logged once for the request: slowapi sends the first start again before each part of a body.

        :raises RuntimeError: for an error within a response that is no event stream, as servers do for each second
            start: the server cuts the connection.
        """
        given = message.get("status")
        # `HTTPStatus` is an int, and its members are what many apps send.
        status = int(given) if isinstance(given, int) else 0
        is_error = status >= 400
        if is_error and self._state is _PASSING and self._scope.get("method") != "HEAD" and self._is_good():
            self._state = _DONE  # what the app still sends is left out
            self._restarted = True
            if not self._client_left:
                log_fault(self._scope, AppFault.ERROR_IN_RESPONSE, status)
            raise RuntimeError(f"the app has begun a second response, a {status}, within its response")
        if is_error and self._state is _STREAMING:
            error = sys.exception()  # the one that the framework handles
            if error is None or error is self.handled_before:
                made = self._exchange.remembered
                error = made if made is not None and made.status == status else RuntimeError("second start")
            mapping = self._plan.map_exception(error)
            if not (self._client_left or mapping.intentional):
                log_fault(self._scope, AppFault.ERROR_IN_STREAM, status)
            await self._fail_stream(mapping, error)
            self._state = _DONE
        elif not (self._client_left or hasattr(self, "_restarted")):
            self._restarted = True
            log_fault(self._scope, AppFault.SECOND_START, given)

    def _is_good(self) -> bool:
        """Whether the response that the app has begun is no error."""
        return error_status(self._start.get("status")) < 400

    async def _file(self, message: Message) -> None:
        """A body that the server reads from a file (ASGI extensions pathsend and zerocopysend)."""
        if self._state is _STREAMING and not self._stream.held:
            await self._stream.pass_on()
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
            await self._stream.add_trailers(message)
        elif self._start.get("trailers") and self._state not in UNSENT:
            await self._send(message)

    async def _collect(self, message: Message) -> None:
        self._collector.add(message.get("body") or b"")
        if message.get("more_body", False) and not self._collector.is_full:
            self._start_timer()
        else:
            await self._decide()


async def _done() -> None:
    """What ``send`` returns for a message of which nothing is sent now."""
