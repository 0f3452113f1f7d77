"""A server span of our own, for hosts that nothing instruments: opened only when asked for, and only where none is.

It follows the stable HTTP conventions: name ``{method} {route}``, a client error is no error of the server, secrets are
taken out of the query.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from opentelemetry import context, propagate, trace
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import SpanKind

from flexmw.kit.asgi import ASGIApp, Scope
from flexmw.kit.semconv import ATTRIBUTES, OTHER
from flexmw.tagging.core import Attributes, safe_query
from flexmw.tagging.settings import Settings

__all__ = ["OwnSpan", "instrumented"]

_METHODS: Final = frozenset(ATTRIBUTES["http.request.method"].values) - {OTHER}
_INSTRUMENTS: Final = ("opentelemetry.instrumentation.", "starlette.middleware.opentelemetry")
_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class _Headers(Getter[Scope]):
    """Reads the caller's trace context off an ASGI scope."""

    def get(self, carrier: Scope, key: str) -> list[str] | None:
        name = key.lower().encode("latin-1")
        values = [value.decode("latin-1") for header, value in carrier["headers"] if header == name]
        return ([",".join(values)] if name == b"baggage" else values) if values else None

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
        self._attributes = _request_attributes(scope)
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
        settings, span, known = self._settings, self.span, self._attributes
        late: Attributes = {}
        if (route := settings.route_of(self._scope)) is not None:
            late["http.route"] = route
            span.update_name(f"{self._name()} {route}")
        if status is not None:
            late["http.response.status_code"] = status
        if late:
            span.set_attributes(late)
        settings.otel.record(
            "http.server.request.duration",
            settings.clock.monotonic() - self._started,
            known["http.request.method"],
            known["url.scheme"],
            status,
            error_type,
            route,
            known.get("network.protocol.version"),
        )
        span.end()


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


def _request_attributes(scope: Scope) -> Attributes:
    method, scheme = scope.get("method", "GET"), scope.get("scheme", "http")
    known = method in _METHODS
    found: Attributes = {
        "http.request.method": method if known else OTHER,
        "url.scheme": scheme,
        "url.path": scope["path"],
    }
    if not known:
        found["http.request.method_original"] = method[:40]
    if query := scope.get("query_string"):
        found["url.query"] = safe_query(query.decode("latin-1"))
    if version := scope.get("http_version"):
        found["network.protocol.version"] = version
    if client := scope.get("client"):
        found["client.address"] = client[0]
    host = None
    for name, value in scope["headers"]:
        if name == b"host":
            host = value.decode("latin-1")
        elif name == b"user-agent":
            found["user_agent.original"] = value.decode("latin-1")
    address, port = (scope.get("server") or (None, None)) if host is None else _authority(host, scheme)
    if address:
        found["server.address"] = address
        if port is not None:
            found["server.port"] = port
    return found


@lru_cache(256)
def _authority(host: str, scheme: str) -> tuple[str, int | None]:
    """Address and port of a ``Host`` header."""
    address, colon, digits = host.rpartition(":")
    if not colon or not digits.isdigit():
        address, digits = host, ""
    return address, int(digits[:5]) if digits else _PORTS.get(scheme)
