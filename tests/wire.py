"""An ASGI server of a few lines: runs an app once and keeps what it sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import anyio

from flexmw.contract import ErrorBody
from tests.servers import ASGIApp

__all__ = ["AppResponse", "call", "scripted"]


@dataclass
class AppResponse:
    """What a server saw of one request."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    raised: BaseException | None = None

    @property
    def starts(self) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == "http.response.start"]

    @property
    def status(self) -> int:
        (start,) = self.starts
        return int(start["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.starts[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(
            message.get("body", b"") for message in self.messages if message["type"] == "http.response.body"
        )

    @property
    def ended(self) -> bool:
        last = [message for message in self.messages if message["type"] == "http.response.body"][-1:]
        return bool(last) and not last[0].get("more_body", False)

    @property
    def error(self) -> ErrorBody:
        error = ErrorBody.decode(self.body)
        assert error is not None, self.body
        return error


async def call(
    app: ASGIApp,
    *,
    method: str = "GET",
    path: str = "/",
    headers: Iterable[tuple[bytes, bytes]] = (),
    receives: Iterable[dict[str, Any]] = (),
    scope: dict[str, Any] | None = None,
) -> AppResponse:
    """Run an app on one request. After ``receives`` the client neither sends nor leaves."""
    seen = AppResponse()
    incoming = list(receives)

    async def receive() -> dict[str, Any]:
        if incoming:
            return incoming.pop(0)
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: Any) -> None:
        seen.messages.append(dict(message))

    base = {"type": "http", "method": method, "path": path, "headers": list(headers), "extensions": {}}
    try:
        await app({**base, **(scope or {})}, receive, send)
    except Exception as error:
        seen.raised = error
    return seen


def scripted(*messages: dict[str, Any], then: BaseException | None = None) -> ASGIApp:
    """An app that sends these messages, and then raises."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)
        if then is not None:
            raise then

    return app
