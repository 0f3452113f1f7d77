"""Server side of Tagging: an ASGI app that observes the requests of the app it wraps.

While no OpenTelemetry provider is configured, requests pass through untouched. One request per second checks whether a
provider has been configured since. Requests inside of ``suppress_instrumentation()`` pass through untouched as well.
"""

from __future__ import annotations

from flexmw.kit.asgi import ASGIApp, Receive, Scope, Send
from flexmw.kit.exchange import KEY
from flexmw.tagging.instruments import opens_server_span
from flexmw.tagging.instruments.fastapi import SCOPE_KEY
from flexmw.tagging.instruments.suppression import is_suppressed
from flexmw.tagging.request import RequestTelemetry, is_observed
from flexmw.tagging.server_span import ServerSpan
from flexmw.tagging.settings import Settings
from flexmw.tagging.spans import current_span

__all__ = ["TaggingApp"]


class TaggingApp:
    """Wraps ``app``; holds no state of a request."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._settings = settings
        self._otel = settings.otel
        self._app_opens_span: bool | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        otel = self._otel
        if not (otel.live or otel.due()) or is_suppressed():
            await self.app(scope, receive, send)
            return
        kind = scope["type"]
        if (kind != "http" and kind != "websocket") or (KEY in scope and is_observed(scope)):
            await self.app(scope, receive, send)
            return
        own_span = self._open_span(scope) if self._settings.server_span else None
        request = RequestTelemetry(self._settings, scope, receive, send, own_span)
        try:
            await self.app(scope, request.receive, request.send)
        except BaseException as error:
            request.finish(error)
            raise
        else:
            request.finish(None)
        finally:
            if own_span is not None:
                own_span.leave()

    def _open_span(self, scope: Scope) -> ServerSpan | None:
        """Open a server span, unless an instrument around this app or inside of it opens one."""
        settings = self._settings
        if scope["type"] != "http" or not (settings.otel.live and settings.otel.traces):
            return None
        if current_span().is_recording() or scope.get(SCOPE_KEY) is not None:
            return None
        if self._app_opens_span is None:
            self._app_opens_span = opens_server_span(self.app)
        return None if self._app_opens_span else ServerSpan(settings, scope)
