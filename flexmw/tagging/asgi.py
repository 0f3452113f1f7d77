"""Server side of Tagging: an ASGI app that observes the requests of the app it wraps.

While no OpenTelemetry provider is configured, requests pass through untouched. One request per second checks whether a
provider has been configured since. Requests inside of ``suppress_instrumentation()`` pass through untouched as well.
"""

from __future__ import annotations

from sys import exception
from typing import Any, Final, TypeAlias

from opentelemetry.context import Context

from flexmw.contract.sdk import RETRY_COUNT
from flexmw.kit import store_observer
from flexmw.kit.asgi import ASGIApp, Receive, Scope, Send, WrappingApp
from flexmw.kit.exchange import KEY, Exchange, Observer, exchange_of, new_exchange
from flexmw.tagging.instruments import AppInstrument, fastapi, instrument_of, starlette
from flexmw.tagging.instruments.current import SPAN_KEY, get_current
from flexmw.tagging.instruments.fastapi import SCOPE_KEY
from flexmw.tagging.instruments.frames import server_span_around
from flexmw.tagging.instruments.suppression import is_suppressed
from flexmw.tagging.otel import Otel
from flexmw.tagging.request import RequestTelemetry
from flexmw.tagging.server_span import ServerSpan
from flexmw.tagging.settings import Settings
from flexmw.tagging.spans import current_span, is_server

__all__ = ["TaggingApp"]

_Parts: TypeAlias = tuple[bool, Otel, ASGIApp, Settings, AppInstrument]
"""Whether requests may be usual, and what the app needs for each request. A usual one is an HTTP request that no
component further outward has seen, once it is known whether a server span is open while the app responds. All other
ones take the general way."""

_OBSERVED: Final = ("http", "websocket")

_UNKNOWN: Final = AppInstrument()
"""Before the first request. An app may be instrumented after it was wrapped."""


class TaggingApp(WrappingApp):
    """Wraps ``app``; holds no state of a request."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._parts: _Parts = False, settings.otel, app, settings, _UNKNOWN

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The only attribute that is read here: Python looks those of a class with __getattr__ up anew each time.
        is_usual, otel, app, settings, instrument = self._parts
        if not is_usual or scope["type"] != "http" or KEY in scope:
            if not (otel.live or otel.due()) or not _is_to_observe(scope):
                await app(scope, receive, send)
                return
            is_usual = False
            if instrument is _UNKNOWN:
                instrument = instrument_of(app)
            if otel.live:
                are_usual = settings.has_plain_requests and settings.diagnostics.span_check_done
                self._parts = are_usual, otel, app, settings, instrument
        context: Context = get_current()
        entry: Any = None
        if context:
            entry = context.get(SPAN_KEY)
            # Most contexts hold a span and nothing else, so no key that suppresses telemetry either.
            if (entry is None or len(context) > 1) and is_suppressed(context):
                await app(scope, receive, send)
                return
        own_span = None
        if not is_usual and settings.server_span:
            own_span = self._open_span(scope, settings, instrument)
            if own_span is not None:
                context, entry = get_current(), own_span.span
        # The class has no __init__, because Python calls one through C, which costs half as much again as these lines.
        # They set what a plain request reads: a default of the class costs more, because it is looked up each time.
        request = RequestTelemetry()
        request.settings, request.instrument, request.context = settings, instrument, context
        request.exchange = exchange = new_exchange(scope) if is_usual else exchange_of(scope)
        request.scope, request.server_receive, request.server_send = scope, receive, send
        request.enclosing, request.span = exception(), None
        request.fastapi = None
        if SCOPE_KEY in scope:
            request.fastapi = request.fastapi_outside = scope[SCOPE_KEY]
        request.is_plain = request.starts_plain = settings.has_plain_requests
        request.is_complete = False
        if instrument.opens_span:
            request.arrived, request.starts_plain = settings.clock.monotonic(), False
        if entry is not None and entry.is_recording():
            # Now: a component further inward may run the app in a task of its own, whose frames lead nowhere.
            request.span = entry if is_server(entry) else server_span_around(scope) or entry
            for name, _ in scope["headers"]:  # has_retry_count(), without its frame
                if name == RETRY_COUNT:
                    request.starts_plain = False
                    break
        if not is_usual:
            request.begin(own_span)
        observers: tuple[Observer, ...] = (request,) if is_usual else (*exchange.observers, request)
        exchange.observers = observers
        token = store_observer.observer.set(request.on_store_operation) if store_observer.reports_expected else None
        try:
            await app(scope, request.receive, request.send)
        except BaseException as error:
            request.finish(error)
            raise
        else:
            if not request.is_counted or not request.is_plain or exchange.facts:
                request.finish(None)
        finally:
            if is_usual and exchange.observers is observers:
                exchange.observers = ()
            else:
                exchange.unsubscribe(request)
            if token is not None:
                try:  # noqa: SIM105 - suppress() costs a request more
                    store_observer.observer.reset(token)
                except ValueError:  # an app that the garbage collector closes ends in another context
                    pass
            if not is_usual:
                if not settings.diagnostics.span_check_done:
                    request.check_for_span()
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


def _is_to_observe(scope: Scope) -> bool:
    """Whether a scope is that of a request or a websocket that no Tagging further outward observes."""
    if scope["type"] not in _OBSERVED:
        return False
    shared: Exchange | None = scope.get(KEY)
    observers = () if shared is None else shared.observers
    return not any(isinstance(observer, RequestTelemetry) for observer in observers)
