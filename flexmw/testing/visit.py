"""ASGI driver: send one request to an app as a server does, and record what the app sends.

>>> import anyio
>>> async def app(scope, receive, send):
...     await send({"type": "http.response.start", "status": 204})
...     await send({"type": "http.response.body"})
>>> visit = Visit(http_scope())
>>> anyio.run(visit.run, app)
>>> visit.status, visit.body, visit.error
(204, b'', None)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import anyio
from starlette.types import ASGIApp, Message, Scope

__all__ = ["EMPTY", "Visit", "grammar", "http_scope", "websocket_scope"]

EMPTY: Final[Message] = {"type": "http.request", "body": b"", "more_body": False}


def http_scope(
    method: str = "GET", headers: Iterable[tuple[bytes, bytes]] = (), path: str = "/flexmw-check"
) -> dict[str, Any]:
    """Make a scope with every key that servers send (ASGI HTTP specification 2.5).

    :param headers: added to ``host`` and ``accept``; a header of the same name replaces these.
    """
    given = list(headers)
    names = {name for name, _ in given}
    usual = [(b"host", b"check.test"), (b"accept", b"*/*")]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"a=1&b=2",
        "root_path": "",
        "headers": [*(pair for pair in usual if pair[0] not in names), *given],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {"from": "lifespan"},
        "extensions": {},
    }


def websocket_scope(headers: Iterable[tuple[bytes, bytes]] = ()) -> dict[str, Any]:
    """Make the scope of a websocket, like :func:`http_scope`."""
    scope = http_scope(headers=headers)
    del scope["method"]
    return {**scope, "type": "websocket", "scheme": "ws", "subprotocols": ["chat"]}


class Visit:
    """One request.

    ``sent`` are the messages of the app, ``error`` is the exception that it raised, ``returned`` whether it returned.
    After the ``incoming`` messages, ``receive`` waits for :meth:`leave`, and then returns a disconnect.
    """

    def __init__(self, scope: Scope, incoming: Sequence[Message] = (EMPTY,)) -> None:
        self.scope = scope
        self.sent: list[Message] = []
        self.error: Exception | None = None
        self.returned = False
        self._incoming = deque(incoming)
        self._left = anyio.Event()
        self._news = anyio.Event()

    async def run(self, app: ASGIApp) -> None:
        """Run the app to its end."""
        try:
            await app(self.scope, self.receive, self.send)
            self.returned = True
        except Exception as error:
            self.error = error
        finally:
            self._news.set()

    async def receive(self) -> Message:
        if self._incoming:
            return self._incoming.popleft()
        await self._left.wait()
        return {"type": f"{self.scope['type']}.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        self._news.set()

    def leave(self) -> None:
        """Disconnect the client."""
        self._left.set()

    async def until(self, size: int) -> None:
        """Wait until the app has sent ``size`` bytes of the body."""
        while len(self.body) < size:
            self._news = anyio.Event()
            await self._news.wait()

    @property
    def starts(self) -> list[Message]:
        return [message for message in self.sent if message["type"] == "http.response.start"]

    @property
    def status(self) -> int | None:
        return self.starts[0].get("status") if self.starts else None

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(name, value) for start in self.starts[:1] for name, value in start.get("headers", ())]

    @property
    def body(self) -> bytes:
        return b"".join(part.get("body", b"") for part in self.sent if part["type"] == "http.response.body")

    @property
    def complete(self) -> bool:
        last: Message = self.sent[-1] if self.sent else {}
        return last.get("type") == "http.response.body" and not last.get("more_body", False)


def grammar(sent: Sequence[Message]) -> Iterator[str]:
    """Yield the places at which a response breaks the ASGI HTTP specification."""
    kinds = [message["type"] for message in sent]
    if kinds.count("http.response.start") > 1:
        yield "more than one http.response.start was sent"
    if kinds and kinds[0] != "http.response.start":
        yield f"the first message is {kinds[0]}, not http.response.start"
    ended = [
        place
        for place, message in enumerate(sent)
        if message["type"] == "http.response.body" and not message.get("more_body", False)
    ]
    if ended and ended[0] != len(sent) - 1:
        yield f"{kinds[ended[0] + 1]} was sent after the last body"
    for start in (message for message in sent if message["type"] == "http.response.start"):
        for name, value in start.get("headers", ()):
            if not (isinstance(name, bytes) and isinstance(value, bytes) and name == name.lower()):
                yield f"header {name!r}: {value!r} is not a pair of bytes with a lower-case name"
