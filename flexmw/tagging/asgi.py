"""Server side of Tagging: an ASGI app that observes the requests of the app it wraps.

While no OpenTelemetry provider is configured, requests pass through untouched. One request per second checks whether a
provider has been configured since. Requests inside of ``suppress_instrumentation()`` pass through untouched as well.
"""

from __future__ import annotations

from typing import TypeAlias

from flexmw.kit import store_observer
from flexmw.kit.asgi import ASGIApp, Receive, Scope, Send, WrappingApp
from flexmw.kit.exchange import KEY, Exchange, new_exchange
from flexmw.tagging.instruments import AppInstrument, fastapi, instrument_of, starlette
from flexmw.tagging.instruments.current import get_current
from flexmw.tagging.instruments.suppression import KEYS, is_suppressed
from flexmw.tagging.otel import Otel
from flexmw.tagging.request import RequestTelemetry
from flexmw.tagging.server_span import ServerSpan
from flexmw.tagging.settings import Settings
from flexmw.tagging.spans import current_span

__all__ = ["TaggingApp"]

_Parts: TypeAlias = tuple[Otel, ASGIApp, Settings, AppInstrument | None]


class TaggingApp(WrappingApp):
    """Wraps ``app``; holds no state of a request."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._parts: _Parts = settings.otel, app, settings, None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The only attribute that is read here: Python looks those of a class with __getattr__ up anew each time.
        otel, app, settings, instrument = self._parts
        if not (otel.live or otel.due()):
            await app(scope, receive, send)
            return
        context = get_current()
        if context and not KEYS.isdisjoint(context) and is_suppressed(context):
            await app(scope, receive, send)
            return
        kind = scope["type"]
        shared: Exchange | None = scope.get(KEY)
        if (kind != "http" and kind != "websocket") or (shared is not None and _is_observed(shared)):
            await app(scope, receive, send)
            return
        if instrument is None:
            instrument = instrument_of(app)
            if otel.live:
                self._parts = otel, app, settings, instrument
        own_span = None
        if settings.server_span and (own_span := self._open_span(scope, settings, instrument)) is not None:
            context = get_current()
        exchange = shared or new_exchange(scope)
        request = RequestTelemetry(settings, instrument, context, exchange, scope, receive, send)
        if shared is not None or kind != "http" or not request.is_plain:
            request.begin(own_span)
        others = exchange.observers
        exchange.observers += (request.on_event,)
        observers = exchange.observers
        token = store_observer.observer.set(request.on_store_operation) if store_observer.reports_expected else None
        try:
            await app(scope, request.receive, request.send)
        except BaseException as error:
            request.finish(error)
            raise
        else:
            request.finish(None)
        finally:
            if exchange.observers is observers:
                exchange.observers = others
            else:
                exchange.unsubscribe(request.on_event)
            if token is not None:
                try:  # noqa: SIM105 - suppress() costs a request more
                    store_observer.observer.reset(token)
                except ValueError:  # an app that the garbage collector closes ends in another context
                    pass
            if own_span is not None:
                own_span.leave()

    @staticmethod
    def _open_span(scope: Scope, settings: Settings, instrument: AppInstrument) -> ServerSpan | None:
        """Open a server span, unless an instrument around this app or inside of it opens one or excludes the request.

        A span that is not sampled counts: the instrument has counted the request all the same.
        """
        if instrument.opens_span or not (settings.otel.live and settings.otel.traces):
            return None
        outer = current_span().get_span_context()
        if (outer.is_valid and not outer.is_remote) or starlette.is_instrumented(scope) or fastapi.is_traced(scope):
            return None
        return ServerSpan(settings, scope, is_measured=not instrument.measures)


def _is_observed(exchange: Exchange) -> bool:
    """Whether a Tagging further outward observes the request of an exchange."""
    return any(isinstance(getattr(observer, "__self__", None), RequestTelemetry) for observer in exchange.observers)
