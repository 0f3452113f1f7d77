"""Run an ASGI app without a server, and look at its response."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass
class AppResponse:
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    messages: list[Message] = field(default_factory=list)

    def __getitem__(self, name: str) -> str:
        """The one value of a header; having several is a fault."""
        found = [value for key, value in self.headers if key == name]
        assert len(found) == 1, f"{name}: {found}"
        return found[0]

    def __contains__(self, name: str) -> bool:
        return any(key == name for key, _ in self.headers)

    @property
    def quota(self) -> tuple[int, int, int]:
        """limit, remaining, reset of the style ``unix``."""
        limit, remaining, reset = (
            int(self[f"x-ratelimit-{part}-requests"]) for part in ("limit", "remaining", "reset")
        )
        return limit, remaining, reset

    @property
    def error(self) -> dict[str, Any]:
        return json.loads(self.body)["error"]  # type: ignore[no-any-return]


def scope_of(
    key: str | None = "sk-1",
    *,
    path: str = "/",
    method: str = "GET",
    client: tuple[str, int] | None = ("192.0.2.7", 1),
    headers: Iterable[tuple[str, str]] = (),
    **more: Any,
) -> Scope:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    if key is not None:
        raw.append((b"authorization", f"Bearer {key}".encode()))
    return {"type": "http", "method": method, "path": path, "headers": raw, "client": client, **more}


async def call(app: ASGIApp, key: str | None = "sk-1", **scope: Any) -> AppResponse:
    """One request; an exception of the app passes through."""
    return await ask(app, scope_of(key, **scope))


async def ask(app: ASGIApp, scope: Scope) -> AppResponse:
    response = AppResponse()

    async def receive() -> Message:
        if scope["type"] == "websocket":
            return {"type": "websocket.connect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        response.messages.append(message)
        if "status" in message:
            response.status = message["status"]
        response.headers += [(name.decode(), value.decode()) for name, value in message.get("headers") or ()]
        response.body += message.get("body", b"")

    await app(scope, receive, send)
    return response


def responding(status: int = 200, *headers: tuple[bytes, bytes]) -> ASGIApp:
    """An app whose responses are all the same. It counts its calls in ``app.calls``."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        app.calls += 1  # type: ignore[attr-defined]
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": b"ok"})

    app.calls = 0  # type: ignore[attr-defined]
    return app
