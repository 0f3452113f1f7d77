"""Server side: the ASGI middleware, around everything in the app that may send a response."""

from __future__ import annotations

from flexmw.envelope.plan import Plan
from flexmw.envelope.responder import Responder
from flexmw.envelope.websocket import Socket
from flexmw.kit.asgi import ASGIApp, Receive, Scope, Send, WrappingApp

__all__ = ["EnvelopeApp"]


class EnvelopeApp(WrappingApp):
    """An ASGI app whose errors keep the contract. It keeps no state of a request."""

    def __init__(self, app: ASGIApp, plan: Plan) -> None:
        self.app = app
        self._plan = plan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await Responder(self._plan, scope, receive, send).run(self.app)
        elif scope["type"] == "websocket":
            await Socket(self._plan, scope, receive, send).run(self.app)
        else:
            await self.app(scope, receive, send)
