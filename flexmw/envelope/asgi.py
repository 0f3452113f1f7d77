"""The server face: one wrapper around a whole ASGI app, outside everything that may answer."""

from __future__ import annotations

from flexmw.envelope.responder import Responder
from flexmw.envelope.websocket import Socket
from flexmw.envelope.writer import Plan
from flexmw.kit.asgi import ASGIApp, Receive, Scope, Send

__all__ = ["EnvelopeApp"]


class EnvelopeApp:
    """An ASGI app whose errors keep the contract. Holds no state of any request."""

    def __init__(self, app: ASGIApp, plan: Plan) -> None:
        self.app = app
        self._plan = plan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            await Responder(self._plan, scope, receive, send).run(self.app)
        elif kind == "websocket":
            await Socket(self._plan, scope, receive, send).run(self.app)
        else:
            await self.app(scope, receive, send)
