"""Streams that are billed: what the backend sends is passed on, and counted, to its very end."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Any

import anyio
import httpx2
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

import flexmw
from examples.gateway.catalogue import Usage
from examples.gateway.upstream import broken

__all__ = ["Bill", "MeteredStream"]

Bill = Callable[[Usage | None, int], None]
"""Is given the usage that the backend counted; where it gave none, how many pieces of text it sent."""


class MeteredStream(StreamingResponse):
    """Server-sent events, passed on and billed at their end, whatever end it is.

    It does not listen for the caller's leaving: the model generates to the end all the same, and the bill is for all
    generated tokens.
    """

    def __init__(self, response: httpx2.Response, *, bill: Bill, show_usage: bool, said: str) -> None:
        self.events = self._events(response, bill, show_usage, said)
        super().__init__(self.events, media_type="text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_anyway(message: Message) -> None:
            with suppress(OSError):  # how some servers say that the caller has gone
                await send(message)

        async with aclosing(self.events):
            await self.stream_response(send_anyway)

    async def _events(self, response: httpx2.Response, bill: Bill, show_usage: bool, said: str) -> AsyncGenerator[str]:
        usage, pieces, ended = None, 0, False
        try:
            async for line in response.aiter_lines():
                data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
                if data == "[DONE]":
                    ended = True
                elif data:
                    event = json.loads(data)
                    usage = Usage.of(event) or usage
                    pieces += any(map(_says_something, event.get("choices", ())))
                    if not event.get("choices") and "error" not in event and not show_usage:
                        continue  # the gateway asked for the usage; the caller did not
                if data:
                    yield f"data: {data}\n\n"
            if not ended:
                raise flexmw.APIError("The model backend broke off before the end of the stream.", status=500)
        except httpx2.TransportError as exc:
            raise broken(exc, said) from exc
        finally:
            bill(usage, pieces)
            with anyio.CancelScope(shield=True):
                await response.aclose()


def _says_something(choice: dict[str, Any]) -> bool:
    return bool(choice.get("text") or (choice.get("delta") or {}).get("content"))
