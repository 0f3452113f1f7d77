"""Faults on order: a request header makes the backend fail in one exact way, so that a client can be measured.

`x-backend-fault: lost` loses the response; `x-backend-fault: 503; once=7f3a` fails only the first time that this id is
seen, so that a retry succeeds. What each does:

================= ========= ==================================================================
fault             work done what the caller sees
================= ========= ==================================================================
reset             no        the connection is reset when the request has arrived
503               no        503 with `Retry-After: 1`
429               no        429 that names no wait
500               yes       500, after the work
timeout           yes       nothing, until it gives up
lost              yes       the connection closes instead of a response
drop-mid-stream   yes       the connection closes after the third piece of the response
slow              yes       a pause of 50 ms before each piece of the response
================= ========= ==================================================================
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import ClassVar

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from flexmw.contract import for_status

__all__ = ["FAULTS", "HEADER", "Faults", "WiredProtocol"]

HEADER = "x-backend-fault"
PAUSE = 0.05  # seconds before each piece of a slow response
MAX_IDS = 10_000


class WiredProtocol(H11Protocol):
    """uvicorn's own protocol, which also remembers each caller's connection: ASGI has no word for hanging up."""

    wires: ClassVar[dict[tuple[str, int] | None, asyncio.Transport]] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.wires[self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.wires.pop(self.client, None)
        super().connection_lost(exc)


class Faults:
    """Stands outside the whole backend, so that every route can fail in every way."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.seen: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        order = Headers(scope=scope).get(HEADER, "") if scope["type"] == "http" else ""
        name, _, option = (part.strip() for part in order.partition(";"))
        if not name or (option and self._spent(option)):
            await self.app(scope, receive, send)
        elif name not in FAULTS:
            await _answer(400, f"{HEADER} must be one of {', '.join(FAULTS)}.", scope, receive, send)
        else:
            await FAULTS[name](self.app, scope, receive, send)

    def _spent(self, option: str) -> bool:
        spent = option in self.seen
        if len(self.seen) >= MAX_IDS:
            self.seen.clear()
        self.seen.add(option)
        return spent


async def reset(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await _body(receive)
    wire = WiredProtocol.wires[tuple(scope["client"])]
    # A linger time of zero makes the kernel send RST where it would send FIN.
    wire.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.abort()
    await _gone(receive)


async def unavailable(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await _body(receive)
    await _answer(503, "The model is loading.", scope, receive, send, {"retry-after": "1"})


async def busy(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await _body(receive)
    await _answer(429, "The model is busy.", scope, receive, send)


async def crash(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, _swallow)
    await _answer(500, "The model crashed after the work was done.", scope, receive, send)


async def hang(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, _swallow)
    await _gone(receive)


async def lose(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, _swallow)
    WiredProtocol.wires[tuple(scope["client"])].close()
    await _gone(receive)


async def drop(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    pieces = 0

    async def cut(message: Message) -> None:
        nonlocal pieces
        is_body = message["type"] == "http.response.body"
        pieces += is_body
        if not is_body or (pieces <= 3 and message.get("more_body", False)):
            await send(message)
        elif wire := WiredProtocol.wires.get(tuple(scope["client"])):
            wire.close()

    await app(scope, receive, cut)
    await _gone(receive)


async def slow(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    async def paced(message: Message) -> None:
        await asyncio.sleep(PAUSE)
        await send(message)

    await app(scope, receive, paced)


FAULTS: dict[str, Callable[[ASGIApp, Scope, Receive, Send], Awaitable[None]]] = {
    "reset": reset,
    "503": unavailable,
    "429": busy,
    "500": crash,
    "timeout": hang,
    "lost": lose,
    "drop-mid-stream": drop,
    "slow": slow,
}


async def _swallow(message: Message) -> None:
    """A `send` that goes nowhere."""


async def _body(receive: Receive) -> None:
    while (await receive()).get("more_body"):
        pass


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(
    status: int, message: str, scope: Scope, receive: Receive, send: Send, headers: dict[str, str] | None = None
) -> None:
    error = {"message": message, "type": for_status(status).type, "code": None}
    await JSONResponse({"error": error}, status, headers)(scope, receive, send)
