"""ASGI middleware of Envelope: a responder for each HTTP request, a socket for each websocket."""

from __future__ import annotations

from flexmw.envelope.plan import Plan
from flexmw.envelope.responder import Responder
from flexmw.envelope.websocket import Socket
from flexmw.kit.asgi import ASGIApp, Receive, Scope, Send, WrappingApp

__all__ = ["EnvelopeApp"]


class EnvelopeApp(WrappingApp):
    """An ASGI app whose errors keep the contract. The object has no state of a request."""

    def __init__(self, app: ASGIApp, plan: Plan) -> None:
        self.app = app
        self._parts = plan, app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # One attribute for both values: Python does not cache the attribute lookups of a class with __getattr__.
        plan, app = self._parts
        if scope["type"] == "http":
            await Responder(plan, scope, receive, send).run(app)
        elif scope["type"] == "websocket":
            await Socket(plan, scope, receive, send).run(app)
        else:
            await app(scope, receive, send)
