"""Websockets: a denial with the error in it before the connection is accepted, a close frame that says why after.

Close codes are RFC 6455's: 1008 for what the caller did wrong, 1011 for what the server did. A denial needs the ASGI
extension ``websocket.http.response``; without it the server answers 403 by itself.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from enum import IntEnum
from typing import Final

from flexmw.contract.bodies import PartialError, complete
from flexmw.contract.exceptions import GONE, ErrorMapping
from flexmw.contract.text import one_line
from flexmw.envelope.cancellation import is_answered
from flexmw.envelope.core import response_to
from flexmw.envelope.responder import Responder
from flexmw.envelope.writer import Plan, Writer
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
    DENYING = 1
    OPEN = 2
    CLOSED = 3


class Socket:
    """One websocket."""

    __slots__ = ("_exchange", "_plan", "_receive", "_scope", "_send", "_state", "_writer")

    def __init__(self, plan: Plan, scope: Scope, receive: Receive, send: Send) -> None:
        self._exchange = Exchange.of(scope)
        self._plan = plan
        self._scope = scope
        self._receive = receive
        self._send = send
        self._state = _State.CONNECTING
        self._writer: Responder | None = None

    async def run(self, app: ASGIApp) -> None:
        """Run the host; no websocket ends without a denial or a close frame."""
        try:
            with self._exchange:
                await app(self._scope, self.receive, self.send)
        except BaseException as error:
            if not is_answered(error) or not await self._raised(error):
                raise
        else:
            if self._state is _State.OPEN:
                with suppress(OSError):
                    await self._close(NORMAL, "")
            elif self._writer is not None:
                await self._writer.finish()
            elif self._state is _State.CONNECTING:
                await self._deny(self._plan.map_exception(RuntimeError("no answer")))
        finally:
            if self._writer is not None:
                await self._writer.stop()

    async def receive(self) -> Message:
        """The host's ``receive``."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._state = _State.CLOSED
        return message

    async def send(self, message: Message) -> None:
        """The host's ``send``."""
        kind, state = message["type"], self._state
        if kind.startswith("websocket.http.response."):
            await self._denial(message)
        elif state is _State.CLOSED:
            return
        elif kind == "websocket.accept":
            self._state = _State.OPEN
            await self._send(message)
        elif kind == "websocket.close" and state is _State.CONNECTING:
            error = sys.exception()
            text = message.get("reason") or ""
            mapping = self._plan.map_exception(error) if error is not None else None
            if mapping is None or not mapping.intentional or mapping.status == GONE:
                partial = PartialError(one_line(text)) if text else None
                mapping = ErrorMapping(403, complete(partial, 403), source="http_exception", intentional=True)
            await self._deny(mapping, message)
        elif kind == "websocket.close":
            self._state = _State.CLOSED
            await self._send(message)
        else:
            await self._send(message)

    async def _denial(self, message: Message) -> None:
        """The host answers with a response of its own: it is read and written anew like any other."""
        if self._state is _State.OPEN:
            if message["type"].endswith(".start"):
                status = message["status"] if message["status"] >= 400 else 500
                error = complete(None, status)
                await self._close(POLICY_VIOLATION if status < 500 else INTERNAL_ERROR, error.code or error.type)
            return
        if self._state is _State.CONNECTING:
            self._state = _State.DENYING
            self._writer = Responder(self._plan, self._scope, self._receive, self._prefixed)
        if self._writer is not None:
            await self._writer.send({**message, "type": message["type"].removeprefix("websocket.")})

    async def _prefixed(self, message: Message) -> None:
        await self._send({**message, "type": f"websocket.{message['type']}"})

    async def _deny(self, mapping: ErrorMapping, close: Message | None = None) -> None:
        self._state = _State.CLOSED
        if "websocket.http.response" in (self._scope.get("extensions") or {}):
            await Writer(self._plan, self._scope).write(self._prefixed, response_to(mapping), {}, None)
        else:
            reason = one_line(mapping.error.code or "", REASON_BYTES)
            await self._send(close or {"type": "websocket.close", "code": POLICY_VIOLATION, "reason": reason})

    async def _close(self, code: int, reason: str) -> None:
        self._state = _State.CLOSED
        reason = reason.encode("utf-8", "replace")[:REASON_BYTES].decode("utf-8", "ignore")
        await self._send({"type": "websocket.close", "code": code, "reason": reason})

    async def _raised(self, error: BaseException) -> bool:
        mapping = self._plan.map_exception(error)
        if mapping.status == GONE:
            return True
        with suppress(OSError):
            if self._state is _State.CONNECTING:
                await self._deny(mapping)
            elif self._writer is not None:
                await self._writer.finish()
            elif self._state is _State.OPEN:
                server = mapping.status >= 500
                Writer(self._plan, self._scope).settle(response_to(mapping))
                reason = mapping.error.type if server else mapping.error.code or mapping.error.type
                await self._close(INTERNAL_ERROR if server else POLICY_VIOLATION, reason)
        return mapping.intentional
