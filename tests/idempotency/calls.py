"""Call an ASGI app in memory, as a server would, and write down what it sends."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio

from flexmw.kit.asgi import ASGIApp, Message, Receive, Scope, Send

KEYED = {"idempotency-key": "8e03978e"}


@dataclass
class Caller:
    """One request. ``gone`` makes the client leave: ``receive`` tells so, and ``send`` fails as the ASGI spec wants."""

    app: ASGIApp
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    path: str = "/orders"
    query: bytes = b""
    token: str | None = "sk-one"
    client: tuple[str, int] = ("192.0.2.7", 50_000)
    chunks: int = 1
    extensions: Mapping[str, Any] = field(default_factory=dict)
    sent: list[Message] = field(default_factory=list)
    raised: BaseException | None = None
    scope: Scope = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.gone = anyio.Event()
        self.complete = anyio.Event()

    async def __call__(self) -> Caller:
        """Make the call; what the app raises is in ``raised``."""
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in self.headers.items()]
        if self.token is not None:
            headers.append((b"authorization", f"Bearer {self.token}".encode()))
        self.scope |= {
            "type": "http",
            "method": self.method,
            "path": self.path,
            "query_string": self.query,
            "headers": headers,
            "client": self.client,
            "extensions": dict(self.extensions),
        }
        size = max(1, -(-len(self.body) // self.chunks))
        parts = [self.body[start : start + size] for start in range(0, len(self.body), size)] or [b""]
        requests: list[Message] = [
            {"type": "http.request", "body": part, "more_body": number + 1 < len(parts)}
            for number, part in enumerate(parts)
        ]

        async def receive() -> Message:
            if requests:
                return requests.pop(0)
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if self.gone.is_set():
                raise OSError("the client is gone")
            self.sent.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self.complete.set()

        try:
            await self.app(self.scope, receive, send)
        except Exception as error:
            self.raised = error
        return self

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def answer_headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def answer(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def replayed(self) -> bool:
        return self.answer_headers.get("idempotent-replayed") == "true"


Work = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass
class Host:
    """An app that counts how often it was run and answers with that count."""

    status: int = 200
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    parts: tuple[bytes, ...] | None = None
    error: BaseException | None = None
    error_after: int | None = None
    work: Work | None = None
    runs: int = 0
    seen: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.started = anyio.Event()
        self.proceed = anyio.Event()
        self.proceed.set()

    def hold(self) -> Host:
        """Let the next runs wait for ``proceed``."""
        self.started, self.proceed = anyio.Event(), anyio.Event()
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.runs += 1
        self.started.set()
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.seen.append(body)
        if self.work is not None:
            await self.work(scope, receive, send)
        await self.proceed.wait()
        parts = self.parts if self.parts is not None else (f"run {self.runs}".encode(),)
        if self.error is not None and self.error_after is None:
            raise self.error
        headers = self.headers or [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        for number, part in enumerate(parts):
            if self.error is not None and self.error_after == number:
                raise self.error
            await send({"type": "http.response.body", "body": part, "more_body": number + 1 < len(parts)})


async def call(app: Any, headers: dict[str, str] | None = None, **options: Any) -> Caller:
    """Make one request with a key and return it, with what was sent."""
    return await Caller(app, headers=KEYED if headers is None else headers, **options)()


def code(caller: Caller) -> str:
    """The `code` of the error that a request got."""
    return str(json.loads(caller.answer)["error"]["code"])
