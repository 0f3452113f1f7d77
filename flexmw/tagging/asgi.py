"""Server side of Tagging: an ASGI app that observes the requests of the app it wraps.

While no OpenTelemetry provider is configured, requests pass through untouched. One request per second checks whether a
provider has been configured since. Requests inside of ``suppress_instrumentation()`` pass through untouched as well.
"""

from __future__ import annotations

from contextlib import suppress

from flexmw.kit.asgi import ASGIApp, Receive, Scope, Send, WrappingApp
from flexmw.kit.exchange import KEY, Exchange
from flexmw.kit.store_observer import observer as store_observer
from flexmw.tagging.instruments import AppInstrument, fastapi, instrument_of, starlette
from flexmw.tagging.instruments.suppression import is_suppressed
from flexmw.tagging.request import RequestTelemetry
from flexmw.tagging.server_span import ServerSpan
from flexmw.tagging.settings import Settings
from flexmw.tagging.spans import current_span

__all__ = ["TaggingApp"]


class TaggingApp(WrappingApp):
    """Wraps ``app``; holds no state of a request."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._settings = settings
        self._parts = settings.otel, app
        self._instrument: AppInstrument | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The only attribute that is read here: Python looks those of a class with __getattr__ up anew each time.
        otel, app = self._parts
        if not (otel.live or otel.due()) or is_suppressed():
            await app(scope, receive, send)
            return
        kind = scope["type"]
        if (kind != "http" and kind != "websocket") or (KEY in scope and _is_observed(scope)):
            await self.app(scope, receive, send)
            return
        instrument = self._instrument
        if instrument is None:
            instrument = instrument_of(self.app)
            if otel.live:
                self._instrument = instrument
        own_span = self._open_span(scope, instrument) if self._settings.server_span else None
        request = RequestTelemetry(self._settings, scope, receive, send, own_span, instrument)
        token = store_observer.set(request.on_store_operation)
        try:
            await self.app(scope, request.receive, request.send)
        except BaseException as error:
            request.finish(error)
            raise
        else:
            request.finish(None)
        finally:
            with suppress(ValueError):  # an app that the garbage collector closes ends in another context
                store_observer.reset(token)
            if own_span is not None:
                own_span.leave()

    def _open_span(self, scope: Scope, instrument: AppInstrument) -> ServerSpan | None:
        """Open a server span, unless an instrument around this app or inside of it opens one or excludes the request.

        A span that is not sampled counts: the instrument has counted the request all the same.
        """
        settings = self._settings
        if instrument.opens_span or not (settings.otel.live and settings.otel.traces):
            return None
        outer = current_span().get_span_context()
        if (outer.is_valid and not outer.is_remote) or starlette.is_instrumented(scope) or fastapi.is_traced(scope):
            return None
        return ServerSpan(settings, scope, is_measured=not instrument.measures)


def _is_observed(scope: Scope) -> bool:
    """Whether a Tagging further outward observes this request."""
    exchange: Exchange | None = scope.get(KEY)
    return exchange is not None and any(
        isinstance(getattr(observer, "__self__", None), RequestTelemetry) for observer in exchange.observers
    )
