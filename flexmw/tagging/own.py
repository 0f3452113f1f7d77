"""A server span of our own, for hosts that nothing instruments: opened only when asked for, and only where none is.

It follows the stable HTTP conventions: name ``{method} {route}``, a client error is no error of the server, secrets are
taken out of the query.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from opentelemetry import context, propagate, trace
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import SpanKind

from flexmw.kit.asgi import ASGIApp, Scope
from flexmw.kit.semconv import ATTRIBUTES, OTHER
from flexmw.tagging.core import Attributes, pick, safe_query
from flexmw.tagging.settings import Settings

__all__ = ["OwnSpan", "instrumented"]

_METHODS: Final = frozenset(ATTRIBUTES["http.request.method"].values) - {OTHER}
_ON_METRIC: Final = ("http.request.method", "url.scheme", "network.protocol.version")
_INSTRUMENTS: Final = ("opentelemetry.instrumentation.", "starlette.middleware.opentelemetry")
_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class _Headers(Getter[Scope]):
    """Reads the caller's trace context off an ASGI scope."""

    def get(self, carrier: Scope, key: str) -> list[str] | None:
        name = key.lower().encode("latin-1")
        values = [value.decode("latin-1") for header, value in carrier["headers"] if header.lower() == name]
        return ([",".join(values)] if key.lower() == "baggage" else values) if values else None

    def keys(self, carrier: Scope) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier["headers"]]


_HEADERS: Final = _Headers()


class OwnSpan:
    """The span of one request, current while the app runs."""

    __slots__ = ("_attributes", "_scope", "_settings", "_started", "_token", "span")

    def __init__(self, settings: Settings, scope: Scope) -> None:
        self._settings, self._scope = settings, scope
        self._started = settings.clock.monotonic()
        parent = propagate.extract(scope, context.get_current(), _HEADERS)
        self._attributes = dict(_request_attributes(scope))
        self.span = settings.otel.tracer.start_span(self._name(), parent, SpanKind.SERVER, self._attributes)
        self._token = context.attach(trace.set_span_in_context(self.span, parent))

    def _name(self) -> str:
        method = self._attributes["http.request.method"]
        return "HTTP" if method == OTHER else str(method)

    def leave(self) -> None:
        """The app is done: the span is current no longer."""
        context.detach(self._token)

    def end(self, status: int | None, error_type: str | None) -> None:
        """Everything is written: close it, and measure the request."""
        facts: Attributes = self._settings.route_of(self._scope)
        if "http.route" in facts:
            self.span.update_name(f"{self._name()} {facts['http.route']}")
        if status is not None:
            facts["http.response.status_code"] = status
        self.span.set_attributes(facts)
        if error_type is not None:
            facts["error.type"] = error_type
        self._settings.otel.record(
            "http.server.request.duration",
            self._settings.clock.monotonic() - self._started,
            {**pick(self._attributes, _ON_METRIC), **facts},
        )
        self.span.end()


def instrumented(app: ASGIApp) -> bool:
    """Whether what we wrap opens a server span by itself: FastAPI's own, Starlette's own, or contrib's."""
    seen: Any = app
    for _ in range(50):
        if seen is None:
            return False
        native = getattr(seen, "_native_telemetry", None)
        added = (each.cls.__module__ for each in getattr(seen, "user_middleware", ()))
        if (
            (native is not None and native.enabled())
            or getattr(seen, "_is_instrumented_by_opentelemetry", False)
            or any(module.startswith(_INSTRUMENTS) for module in (type(seen).__module__, *added))
        ):
            return True
        seen = getattr(seen, "app", None)
    return False


def _request_attributes(scope: Scope) -> Iterator[tuple[str, Any]]:
    method, scheme = scope.get("method", "GET"), scope.get("scheme", "http")
    yield "http.request.method", method if method in _METHODS else OTHER
    if method not in _METHODS:
        yield "http.request.method_original", method[:40]
    yield "url.scheme", scheme
    yield "url.path", scope["path"]
    if query := scope.get("query_string"):
        yield "url.query", safe_query(query.decode("latin-1"))
    if version := scope.get("http_version"):
        yield "network.protocol.version", version
    if client := scope.get("client"):
        yield "client.address", client[0]
    headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
    if agent := headers.get(b"user-agent"):
        yield "user_agent.original", agent
    yield from _server(headers.get(b"host"), scheme, scope.get("server"))


def _server(host: str | None, scheme: str, server: Any) -> Iterator[tuple[str, Any]]:
    if host is None:
        address, port = server or (None, None)
    else:
        address, colon, digits = host.rpartition(":")
        if not colon or not digits.isdigit():
            address, digits = host, ""
        port = int(digits[:5]) if digits else _PORTS.get(scheme)
    if address:
        yield "server.address", address
        if port is not None:
            yield "server.port", port
