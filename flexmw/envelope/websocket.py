"""WebSocket errors: a denial response before the connection is accepted, a close frame with a reason after that.

The close codes are those of RFC 6455: 1008 for an error of the caller, 1011 for an error of the server. A denial needs
the ASGI extension ``websocket.http.response``; without it the server responds to a closed handshake with a bare 403.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from enum import IntEnum
from typing import Any, Final

from flexmw.contract.bodies import PartialError, complete, recognise, validation
from flexmw.contract.exceptions import ErrorMapping
from flexmw.contract.text import one_line
from flexmw.envelope.cancellation import needs_response
from flexmw.envelope.core import response_to
from flexmw.envelope.crash_log import log_raised
from flexmw.envelope.plan import Plan
from flexmw.envelope.responder import Responder
from flexmw.envelope.writer import Writer
from flexmw.kit.asgi import ASGIApp, Message, Receive, Scope, Send
from flexmw.kit.exchange import Exchange

__all__ = ["Socket"]

NORMAL: Final = 1000
POLICY_VIOLATION: Final = 1008
INTERNAL_ERROR: Final = 1011
REASON_BYTES: Final = 123
"""RFC 6455 section 5.5: a control frame carries at most 125 bytes, two of them the code."""


class _State(IntEnum):
    CONNECTING = 0
    DENYING = 1  # the app sends a denial response of its own
    OPEN = 2
    CLOSED = 3
    LEFT = 4  # the client has disconnected
    REPLACED = 5  # a close frame was sent in place of the app's denial of an open connection


def _sendable_close(close: Message) -> tuple[Message, PartialError | None]:
    """Return a ``websocket.close`` whose reason a server can send, and the error that the reason describes.

    FastAPI closes with a list of validation errors, other apps with bytes or an object. Servers raise if the reason
    does not fit into the frame.
    """
    reason: Any = close.get("reason")
    if not reason:
        return (close if reason is None or reason == "" else {**close, "reason": ""}), None
    if isinstance(reason, (bytes, bytearray, memoryview)):
        reason = bytes(reason).decode("utf-8", "replace")
    if isinstance(reason, str):
        partial: PartialError | None = PartialError(one_line(reason))
    else:
        items = list(reason) if isinstance(reason, (list, tuple)) else []
        found = validation(items) if items else recognise(reason, 403)
        partial = found if isinstance(found, PartialError) else None
    text = reason if isinstance(reason, str) else (partial.message or "" if partial is not None else "")
    return {**close, "reason": _shortened(text)}, partial


def _shortened(reason: str) -> str:
    return reason.encode("utf-8", "replace")[:REASON_BYTES].decode("utf-8", "ignore")


class Socket:
    """One websocket connection."""

    __slots__ = ("_denial", "_exchange", "_merges_headers", "_plan", "_receive", "_scope", "_send", "_state")

    def __init__(self, plan: Plan, scope: Scope, receive: Receive, send: Send) -> None:
        self._exchange = Exchange.of(scope)
        self._plan = plan
        self._scope = scope
        self._receive = receive
        self._send = send
        self._state = _State.CONNECTING
        self._denial: Responder | None = None
        self._merges_headers = not self._exchange.headers_claimed

    async def run(self, app: ASGIApp) -> None:
        """Run the app, and end the connection with a denial or a close frame in any case.

        :raises BaseException: the app's exception, unless the exception was intentional.
        """
        exchange = self._exchange
        outer_mapping, exchange.map_exception = exchange.map_exception, self._plan.map_exception
        exchange.headers_claimed = True
        try:
            with exchange:
                await app(self._scope, self.receive, self.send)
        except BaseException as error:
            if not needs_response(error):
                raise
            is_owed = self._state in (_State.CONNECTING, _State.OPEN)
            if not await self._handle_exception(error):
                if is_owed:
                    log_raised(self._scope, error)
                raise
        else:
            if self._state is _State.OPEN:
                with suppress(OSError):
                    await self._close(NORMAL, "")
            elif self._denial is not None:
                await self._denial.finish()
            elif self._state is _State.CONNECTING:
                await self._deny(self._plan.map_exception(RuntimeError("no response")))
        finally:
            exchange.map_exception = outer_mapping
            exchange.headers_claimed = not self._merges_headers
            if self._denial is not None:
                await self._denial.stop()

    async def receive(self) -> Message:
        """The app's ``receive``."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._state = _State.LEFT
        return message

    async def send(self, message: Message) -> None:
        """The app's ``send``."""
        kind, state = message["type"], self._state
        if kind.startswith("websocket.http.response."):
            await self._send_denial(message)
        elif state is _State.LEFT:
            # The server raises. Only this error ends an app that sends in a loop, such as Sanic's.
            if kind == "websocket.send":
                await self._send(message)
        elif state is _State.REPLACED:
            return
        elif state is _State.CLOSED:
            # An error of the app. The server raises, as it does without flexmw.
            await self._send(message)
        elif kind == "websocket.accept":
            self._state = _State.OPEN
            if self._merges_headers and self._exchange.headers:
                message = {**message, "headers": self._exchange.complete(message.get("headers") or ())}
            await self._send(message)
        elif kind == "websocket.close" and state is _State.CONNECTING:
            error = sys.exception()
            message, partial = _sendable_close(message)
            mapping = self._plan.map_exception(error) if error is not None else None
            if mapping is None or not mapping.intentional or mapping.gone:
                mapping = ErrorMapping(403, complete(partial, 403), source="http_exception", intentional=True)
            await self._deny(mapping, message)
        elif kind == "websocket.close":
            self._state = _State.CLOSED
            await self._send(_sendable_close(message)[0])
        else:
            await self._send(message)

    async def _send_denial(self, message: Message) -> None:
        """Take a message of the app's own denial response, which is handled like any other response."""
        if self._state is _State.OPEN:
            if message["type"].endswith(".start"):
                await self._close_instead_of_denial(message["status"])
            return
        if self._state is _State.CLOSED:
            await self._send(message)
        if self._state is _State.CONNECTING:
            self._state = _State.DENYING
            self._denial = Responder(self._plan, self._scope, self._receive, self._send_prefixed)
            self._denial.merges_headers = self._merges_headers
            self._denial.handled_before = None
        if self._denial is not None:
            await self._denial.send({**message, "type": message["type"].removeprefix("websocket.")})

    async def _send_prefixed(self, message: Message) -> None:
        await self._send({**message, "type": f"websocket.{message['type']}"})

    async def _deny(self, mapping: ErrorMapping, close: Message | None = None) -> None:
        """Refuse the connection. ``close`` is the app's own ``websocket.close``, for a server without denials."""
        self._state = _State.CLOSED
        if "websocket.http.response" in (self._scope.get("extensions") or {}):
            await Writer(self._plan, self._scope).write(self._send_prefixed, response_to(mapping), {}, None)
        else:
            reason = one_line(mapping.error.code or "", REASON_BYTES)
            await self._send(close or {"type": "websocket.close", "code": POLICY_VIOLATION, "reason": reason})

    async def _close(self, code: int, reason: str) -> None:
        self._state = _State.CLOSED
        await self._send({"type": "websocket.close", "code": code, "reason": _shortened(reason)})

    async def _close_instead_of_denial(self, status: int) -> None:
        """Close an open connection whose app sends a denial response, as frameworks do when they handle an exception.

        The close reason and the recorded error come from the exception, if it maps to the status of the denial.
        """
        status = status if status >= 400 else 500
        error = sys.exception()
        mapping = self._plan.map_exception(error) if error is not None else None
        if mapping is None or mapping.gone or mapping.status != status:
            mapping = ErrorMapping(status, complete(None, status), source="http_exception", intentional=True)
        Writer(self._plan, self._scope).record(response_to(mapping))
        code = POLICY_VIOLATION if status < 500 else INTERNAL_ERROR
        await self._close(code, mapping.error.code or mapping.error.type)
        self._state = _State.REPLACED

    async def _handle_exception(self, error: BaseException) -> bool:
        """End the connection after an exception. Returns True if the caller need not raise the exception again."""
        mapping = self._plan.map_exception(error)
        if mapping.gone:
            return True
        with suppress(OSError):
            if self._state is _State.CONNECTING:
                await self._deny(mapping)
            elif self._denial is not None:
                await self._denial.finish()
            elif self._state is _State.OPEN:
                server = mapping.status >= 500
                Writer(self._plan, self._scope).record(response_to(mapping))
                reason = mapping.error.type if server else mapping.error.code or mapping.error.type
                await self._close(INTERNAL_ERROR if server else POLICY_VIOLATION, reason)
        return mapping.intentional
