"""Server side of Tagging: an ASGI app that observes the requests of the app it wraps.

While no OpenTelemetry provider is configured, requests pass through untouched. One request per second checks whether a
provider has been configured since. Requests inside of ``suppress_instrumentation()`` pass through untouched as well.
"""

from __future__ import annotations

from contextvars import Token
from sys import exception
from typing import Any, Final, TypeAlias

from opentelemetry.context import Context

from flexmw.kit import store_observer
from flexmw.kit.asgi import ASGIApp, Receive, Scope, Send, WrappingApp
from flexmw.kit.exchange import KEY, Exchange, exchange_of
from flexmw.tagging.instruments import AppInstrument, fastapi, instrument_of, starlette
from flexmw.tagging.instruments.current import SPAN_KEY, get_current
from flexmw.tagging.instruments.fastapi import SCOPE_KEY
from flexmw.tagging.instruments.frames import server_span_around
from flexmw.tagging.instruments.suppression import is_suppressed
from flexmw.tagging.otel import Otel
from flexmw.tagging.plain import COMPLETE, ENDED, PlainRequest
from flexmw.tagging.request import RequestTelemetry
from flexmw.tagging.server_span import ServerSpan
from flexmw.tagging.settings import Settings
from flexmw.tagging.spans import current_span, is_server

__all__ = ["TaggingApp"]

_Parts: TypeAlias = tuple[bool, Otel, ASGIApp, Settings, AppInstrument]
"""Whether requests may be usual, and what the app needs for each request. A usual one is an HTTP request that no
component further outward has seen, once it is known whether a server span is open while the app responds. It begins as
a plain request; all other ones are observed by full telemetry from the beginning."""

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
            if (otel.live or otel.due()) and _is_to_observe(scope):
                await self._observe(scope, receive, send)
            else:
                await app(scope, receive, send)
            return
        context: Context = get_current()
        entry: Any = context.get(SPAN_KEY)
        # Most contexts hold a span and nothing else, so no key that suppresses telemetry either.
        if (entry is None or len(context) > 1) and context and is_suppressed(context):
            await app(scope, receive, send)
            return
        request = PlainRequest()
        request.begin(settings, instrument, context, scope, receive, send)
        if instrument.opens_span:
            request.arrived = settings.clock.monotonic()
        if entry is not None and entry.is_recording():
            # Now: a component further inward may run the app in a task of its own, whose frames lead nowhere.
            request.span = entry if is_server(entry) else server_span_around(scope) or entry
        token = store_observer.observer.set(request.on_store_operation) if store_observer.reports_expected else None
        try:
            await app(scope, request.receive_observed, request.send_observed)
        except BaseException as error:
            request.finish_full(error)
            raise
        else:
            if request.full is not COMPLETE or request.facts:
                request.finish_full(None)
        finally:
            request.full = ENDED
            try:  # noqa: SIM105 - as in `_reset`
                del scope[KEY]  # breaks the reference cycle: the request has its scope
            except KeyError:  # the app has removed it
                pass
            if token is not None:
                _reset(token)

    async def _observe(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Observe a request or a websocket that is not usual."""
        _, otel, app, settings, instrument = self._parts
        if instrument is _UNKNOWN:
            instrument = instrument_of(app)
        if otel.live:
            are_usual = settings.has_plain_requests and settings.diagnostics.span_check_done
            self._parts = are_usual, otel, app, settings, instrument
        context: Context = get_current()
        if context and is_suppressed(context):
            await app(scope, receive, send)
            return
        entry: Any = context.get(SPAN_KEY)
        own_span = None
        if settings.server_span:
            own_span = self._open_span(scope, settings, instrument)
            if own_span is not None:
                context, entry = get_current(), own_span.span
        request = RequestTelemetry()
        request.settings, request.instrument, request.context = settings, instrument, context
        request.exchange = exchange = exchange_of(scope)
        request.scope, request.server_receive, request.server_send = scope, receive, send
        request.enclosing, request.span = exception(), None
        request.fastapi = request.fastapi_outside = scope.get(SCOPE_KEY)
        if instrument.opens_span:
            request.arrived = settings.clock.monotonic()
        if entry is not None and entry.is_recording():
            # As in `__call__`.
            request.span = entry if is_server(entry) else server_span_around(scope) or entry
        request.begin(own_span)
        exchange.subscribe(request)
        token = store_observer.observer.set(request.on_store_operation) if store_observer.reports_expected else None
        try:
            await app(scope, request.receive, request.send)
        except BaseException as error:
            request.finish(error)
            raise
        else:
            request.finish(None)
        finally:
            exchange.unsubscribe(request)
            if token is not None:
                _reset(token)
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
    if shared is None:
        return True
    if isinstance(shared, PlainRequest) and shared.full is not ENDED:
        return False
    return not any(isinstance(observer, RequestTelemetry) for observer in shared.observers)


def _reset(token: Token[Any]) -> None:
    """Let the stores report to the observer of before."""
    try:  # noqa: SIM105 - suppress() costs a request more
        store_observer.observer.reset(token)
    except ValueError:  # an app that the garbage collector closes ends in another context
        pass
