"""The server face: what is known about a request goes on the span of whatever instruments the host, while it is open.

While nothing records, a request passes untouched; one a second looks whether that has changed.
"""

from __future__ import annotations

from flexmw.kit.asgi import ASGIApp, Receive, Scope, Send
from flexmw.kit.exchange import KEY
from flexmw.tagging.host import MARK
from flexmw.tagging.otel import current_span
from flexmw.tagging.request import Watch, watched
from flexmw.tagging.server_span import OwnSpan, instrumented
from flexmw.tagging.settings import Settings

__all__ = ["Tagged"]


class Tagged:
    """An ASGI app whose requests are told about."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._settings = settings
        self._otel = settings.otel
        self._instrumented: bool | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        otel = self._otel
        if not (otel.live or otel.due()):
            await self.app(scope, receive, send)
            return
        kind = scope["type"]
        if (kind != "http" and kind != "websocket") or (KEY in scope and watched(scope)):  # by a Tagging around this
            await self.app(scope, receive, send)
            return
        own = self._open(scope) if self._settings.server_span else None
        watch = Watch(self._settings, scope, receive, send, own)
        try:
            await self.app(scope, watch.receive, watch.send)
        except BaseException as error:
            watch.finish(error)
            raise
        else:
            watch.finish(None)
        finally:
            if own is not None:
                own.leave()

    def _open(self, scope: Scope) -> OwnSpan | None:
        """A server span where one is wanted and nothing else makes one."""
        settings = self._settings
        if scope["type"] != "http" or not (settings.otel.live and settings.otel.traces):
            return None
        if current_span().is_recording() or scope.get(MARK) is not None:
            return None
        if self._instrumented is None:
            self._instrumented = instrumented(self.app)
        return None if self._instrumented else OwnSpan(settings, scope)
