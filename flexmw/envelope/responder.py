"""One request of the server face: the host's messages come in, at most one answer goes out.

A good answer passes at once. An error is collected, decided by :mod:`flexmw.envelope.core` and sent; where the host
has said nothing but 500, the exception decides, which Starlette raises after it has answered.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from flexmw.contract.exceptions import GONE, ErrorMapping, stems_from
from flexmw.envelope.app_info import answers_crashes_itself, through_cors, unrouted
from flexmw.envelope.cancellation import is_answered
from flexmw.envelope.core import AppResponse, ErrorResponse, Header, decide, error_status, response_to
from flexmw.envelope.drain import read_rest
from flexmw.envelope.stream import Stream, framing_of
from flexmw.envelope.timer import Alarm
from flexmw.envelope.writer import Plan, Writer
from flexmw.kit.asgi import ASGIApp, Message, Receive, Scope, Send
from flexmw.kit.exchange import Exchange

__all__ = ["Responder"]


_NO_START: Final[Message] = {}

_WAITING: Final = 0  # nothing has come from the host
_PASSING: Final = 1  # a good answer, forwarded as it comes
_STREAMING: Final = 2  # events
_COLLECTING: Final = 3  # an error whose body is still coming
_HELD: Final = 4  # a 500 that says nothing, until the host returns or raises
_DONE: Final = 5
_SAID: Final = frozenset({_PASSING, _DONE})
_UNSENT: Final = frozenset({_WAITING, _COLLECTING, _HELD})


class Responder:
    """One request: takes the host's messages, sends at most one answer."""

    __slots__ = (
        "_alarm",
        "_answered",
        "_before",
        "_chunks",
        "_gone",
        "_guard",
        "_plan",
        "_read",
        "_receive",
        "_scope",
        "_seen",
        "_send",
        "_size",
        "_start",
        "_state",
        "_stream",
        "exchange",
    )

    def __init__(self, plan: Plan, scope: Scope, receive: Receive, send: Send) -> None:
        self.exchange = Exchange.of(scope)
        self._plan = plan
        self._scope = scope
        self._receive = receive
        self._send = send
        self._state = _WAITING
        self._start: Message = _NO_START
        self._before: BaseException | None = None
        self._gone = self._read = False
        self._alarm: Alarm | None = None
        self._answered: BaseException | None = None

    async def run(self, app: ASGIApp) -> None:
        """Run the host and see to it that its request is answered once."""
        self._before = sys.exception()
        self._guard = self._scope.get("app")
        self.exchange.map_exception = self._plan.map_exception
        try:
            with self.exchange:
                await app(self._scope, self.receive, self.send)
        except BaseException as error:
            if not is_answered(error) or not await self._raised(error):
                raise
        else:
            if self._state not in _SAID:
                await self.finish()
        finally:
            if self._alarm is not None:
                await self.stop()

    async def stop(self) -> None:
        """Nothing is done later on for this request."""
        if self._alarm is not None:
            await self._alarm.stop()

    async def receive(self) -> Message:
        """The host's ``receive``."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._gone = True
        self._read = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """The host's ``send``."""
        state = self._state
        kind = message["type"]
        if kind == "http.response.body":
            if state == _PASSING:
                if not message.get("more_body", False):
                    self._state = _DONE
                await self._send(message)
            elif state == _STREAMING:
                await self._stream.body(message)
            elif state == _COLLECTING:
                await self._collect(message)
        elif kind == "http.response.start":
            if state == _WAITING:
                await self._begin(message)
        elif kind in _FILES:
            await self._file(message)
        elif kind == "http.response.trailers":
            await self._trail(message)
        else:
            await self._send(message)

    async def _file(self, message: Message) -> None:
        if self._state == _STREAMING and not self._stream.held:
            await self._stream.let_go()
            self._state = _PASSING
        last = not message.get("more_body", False)
        if self._state == _PASSING:
            if last:
                self._state = _DONE
            await self._send(message)
        elif self._state == _COLLECTING and last:
            await self._collect({"type": "http.response.body", "body": b""})

    async def _trail(self, message: Message) -> None:
        if self._state == _STREAMING:
            await self._stream.trail(message)
        elif self._start.get("trailers") and self._state not in _UNSENT:
            await self._send(message)

    async def _begin(self, message: Message) -> None:
        headers = message.get("headers")
        if type(headers) is not list:
            message = {**message, "headers": list(headers or ())}
        self._start = message
        status = message.get("status")
        if type(status) is not int or not 100 <= status <= 599:
            status = error_status(status)
        if status < 400:
            framing = framing_of(message["headers"], lines=self._plan.lines)
            if self.exchange.headers:
                message = {**message, "headers": self.exchange.complete(message["headers"])}
            if framing is None:
                self._state = _PASSING
                await self._send(message)
            else:
                self._state = _STREAMING
                finished = Writer(self._plan, self._scope).dialect.finished
                self._stream = Stream(self._send, message, framing, finished, self.exchange.emit)
        elif self._passes(status):
            self._state = _PASSING
            await self._send({**message, "headers": self.exchange.complete(message["headers"])})
        else:
            self._state = _COLLECTING
            self._chunks: list[bytes] = []
            self._size = 0

    def _passes(self, status: int) -> bool:
        path: str = self._scope.get("path", "")
        if self._plan.passthrough and path.startswith(self._plan.passthrough):
            return True
        return self._plan.unless is not None and self._plan.unless(self._scope, status)

    async def _collect(self, message: Message) -> None:
        body = message.get("body") or b""
        self._size += len(body)
        if self._size > self._plan.rules.max_body:
            await self._decide(None)
        elif message.get("more_body", False):
            self._chunks.append(body)
            if self._alarm is None:
                self._alarm = Alarm(self._plan.max_wait, self._too_late)
        else:
            self._chunks.append(body)
            await self._decide(b"".join(self._chunks))

    async def _decide(self, body: bytes | None, *, last: bool = False) -> None:
        """Answer an error of the host; or hold it, when it says nothing and its exception is still to come."""
        start, exchange = self._start, self.exchange
        seen = AppResponse(
            status=error_status(start.get("status")),
            headers=tuple(start["headers"]),
            body=body,
            unrouted=unrouted(self._scope),
            settled=exchange.answer is not None and exchange.answer.status == start.get("status"),
        )
        error = sys.exception()
        mapping = self._plan.map_exception(error) if error is not None and error is not self._before else None
        if mapping is not None and mapping.status == GONE:
            self._state, self._gone, self._answered = _DONE, True, error
            return
        remembered = exchange.remembered
        if mapping is not None and error is not None and remembered is not None and not stems_from(error, remembered):
            remembered = None
        reply = decide(seen, self._plan.rules, mapping=mapping, remembered=remembered)
        may_come = mapping is None and not last and seen.status == 500 and not reply.kept
        if may_come and decide(seen, self._plan.rules).generic:
            self._state, self._seen = _HELD, seen
            if self._alarm is None:
                self._alarm = Alarm(self._plan.max_wait, self._too_late)
            return
        self._answered = error
        if mapping is not None and seen.status == 500 and not reply.kept:
            await self._crash(reply, seen.headers)
        else:
            await self._answer(reply, seen.headers, body if reply.kept else None)

    async def _too_late(self) -> None:
        if self._state == _HELD or self._state == _COLLECTING:
            await self.finish()

    async def _raised(self, error: BaseException) -> bool:
        """See an exception through. Whether it is answered by that, and not to be raised again."""
        mapping = self._plan.map_exception(error)
        if mapping.status == GONE:
            self._state = _DONE
            return True
        if self._state in _UNSENT and not (mapping.intentional or self._read):
            await read_rest(self._scope, self._receive)
        state = self._state
        if state == _DONE or self._gone:
            return error is self._answered and mapping.intentional
        with suppress(OSError):
            if state == _WAITING:
                if not mapping.intentional and answers_crashes_itself(self._guard):
                    return False
                await self._crash(response_to(mapping), ())
            elif state == _HELD:
                await self._crash(response_to(mapping), self._seen.headers)
            elif state == _COLLECTING:
                await self._decide(b"".join(self._chunks), last=True)
            elif state == _STREAMING:
                return await self._broken(mapping)
            else:
                Writer(self._plan, self._scope).settle(response_to(mapping), status=self._start["status"])
                self.exchange.facts["flexmw.response.outcome"] = "failed"
                return False
        return mapping.intentional

    async def _broken(self, mapping: ErrorMapping) -> bool:
        """A stream whose host has raised."""
        stream, start = self._stream, self._start
        if stream.start is not None:
            await self._answer(response_to(mapping), start["headers"])
            return mapping.intentional
        self.exchange.facts["flexmw.response.outcome"] = "failed"
        writer = Writer(self._plan, self._scope)
        writer.settle(response_to(mapping), status=start["status"])
        self._state = _DONE
        return await stream.fail(writer.last_words(mapping, stream.framing)) and mapping.intentional

    async def _crash(self, reply: ErrorResponse, headers: tuple[Header, ...]) -> None:
        async def answer(send: Send) -> None:
            await self._answer(reply, headers, None, send)

        await through_cors(self._scope, headers, self._receive, self._send, answer)

    async def finish(self) -> None:
        """The host has returned: whatever is still open is closed."""
        state = self._state
        if state in _SAID:
            return
        if self._gone and state != _STREAMING:
            self._state = _DONE
        elif state == _STREAMING and (self._stream.held or self._stream.start is None):
            if self._stream.held:
                await self._stream.end()
        elif state == _HELD:
            reply = decide(self._seen, self._plan.rules, remembered=self.exchange.remembered)
            await self._answer(reply, self._seen.headers)
        elif state == _COLLECTING:
            await self._decide(b"".join(self._chunks), last=True)
        else:
            await self._answer(response_to(self._plan.map_exception(RuntimeError("no response"))), ())

    async def _answer(
        self, reply: ErrorResponse, headers: Iterable[Header], kept: bytes | None = None, send: Send | None = None
    ) -> None:
        self._state = _DONE
        start = {**self._start, "headers": list(headers)}
        if kept is None:
            self._start = _NO_START
        await Writer(self._plan, self._scope).write(send or self._send, reply, start, kept)


_FILES: Final = frozenset({"http.response.pathsend", "http.response.zerocopysend"})
