"""Drive an ASGI app without a server: what a test of the limiter needs to see of an answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flexmw.ratelimit.core import Check, Rate


@dataclass
class Answer:
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


async def call(app: ASGIApp, key: str | None = "sk-1", **scope: Any) -> Answer:
    """One request; an exception of the app passes through."""
    return await ask(app, scope_of(key, **scope))


async def ask(app: ASGIApp, scope: Scope) -> Answer:
    answer = Answer()

    async def receive() -> Message:
        if scope["type"] == "websocket":
            return {"type": "websocket.connect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        answer.messages.append(message)
        if "status" in message:
            answer.status = message["status"]
        answer.headers += [(name.decode(), value.decode()) for name, value in message.get("headers") or ()]
        answer.body += message.get("body", b"")

    await app(scope, receive, send)
    return answer


def answering(status: int = 200, *headers: tuple[bytes, bytes]) -> ASGIApp:
    """An app that always answers the same and counts its calls in ``app.calls``."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        app.calls += 1  # type: ignore[attr-defined]
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": b"ok"})

    app.calls = 0  # type: ignore[attr-defined]
    return app


def check_of(digest: str, rates: tuple[Rate, ...], cost: int | Sequence[int] = 1, **more: Any) -> Check:
    """What a store is asked: one cost in every rate, or one for each."""
    costs = (cost,) * len(rates) if isinstance(cost, int) else tuple(cost)
    return Check(digest, rates, costs, **more)


async def awaited(value: Any) -> Any:
    """What a method returns, of a store in this process or over a network."""
    return await value if isawaitable(value) else value
