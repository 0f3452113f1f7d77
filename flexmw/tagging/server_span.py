"""flexmw's own server span: for each request with ``Tagging(server_span=True)`` where no instrument opens one, and for
a request that is answered before it reaches the instrumented app, such as a refusal (429) or a replay (409).

The span follows the stable HTTP semantic conventions: its name is ``{method} {route}``, a client error is not an error
of the server, and credentials are removed from the query.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from opentelemetry import context, propagate, trace
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import SpanKind

from flexmw.contract.redact import redact
from flexmw.contract.request_secrets import safe_query
from flexmw.kit.asgi import Scope
from flexmw.kit.semconv import ATTRIBUTES, OTHER
from flexmw.tagging.core import Attributes
from flexmw.tagging.settings import Settings

__all__ = ["ServerSpan"]

_METHODS: Final = frozenset(ATTRIBUTES["http.request.method"].values) - {OTHER}
_MAX_HOST: Final = 300
"""Characters of the longest ``Host`` header that is read: a host name of 253, brackets and a port."""

_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class _Headers(Getter[Scope]):
    """Reads the headers of an ASGI scope for the propagator of the trace context."""

    def get(self, carrier: Scope, key: str) -> list[str] | None:
        name = key.lower().encode("latin-1")
        values = [value.decode("latin-1") for header, value in carrier["headers"] if header == name]
        return ([",".join(values)] if name == b"baggage" else values) if values else None

    def keys(self, carrier: Scope) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier["headers"]]


_HEADERS: Final = _Headers()


class ServerSpan:
    """The server span of one request, or of one websocket.

    The times of the span are those of the component's clock, like the duration in the metric.

    :param arrived: when the request came in, if that is over: monotonic seconds. Otherwise the request comes in now,
        and the span is the current one until :meth:`leave` is called.
    :param is_measured: record ``http.server.request.duration``: nothing else does for this request.
    """

    __slots__ = ("_attributes", "_is_measured", "_scope", "_settings", "_started", "_started_ns", "_token", "span")

    def __init__(self, settings: Settings, scope: Scope, *, is_measured: bool, arrived: float | None = None) -> None:
        self._settings, self._scope = settings, scope
        now = settings.clock.monotonic()
        self._started = now if arrived is None else arrived
        self._started_ns = int((settings.clock.now() - (now - self._started)) * 1e9)
        self._is_measured = is_measured and scope["type"] == "http"
        parent = propagate.extract(scope, context.get_current(), _HEADERS)
        self._attributes = _request_attributes(scope)
        self.span = settings.otel.tracer.start_span(
            self._name(), parent, SpanKind.SERVER, self._attributes, start_time=self._started_ns
        )
        self._token = context.attach(trace.set_span_in_context(self.span, parent)) if arrived is None else None

    def _name(self) -> str:
        method = self._attributes.get("http.request.method", "WS")
        return "HTTP" if method == OTHER else str(method)

    def leave(self) -> None:
        """Make the previous span current again."""
        if self._token is not None:
            context.detach(self._token)

    def end(self, status: int | None, error_type: str | None, route: str | None) -> None:
        """End the span and record ``http.server.request.duration``.

        :param status: the status of the response; ``None`` where none was sent.
        :param error_type: the ``error.type`` that is on the span.
        :param route: the template of the request's route.
        """
        settings, span, request = self._settings, self.span, self._attributes
        seconds = max(0.0, settings.clock.monotonic() - self._started)
        attributes: Attributes = {}
        if route is not None:
            attributes["http.route"] = route
            span.update_name(f"{self._name()} {route}")
        if status is not None:
            attributes["http.response.status_code"] = status
        if attributes:
            span.set_attributes(attributes)
        if self._is_measured:
            settings.otel.record(
                "http.server.request.duration",
                seconds,
                request["http.request.method"],
                request["url.scheme"],
                status,
                error_type,
                route,
                request.get("network.protocol.version"),
                span=span,
            )
        span.end(self._started_ns + int(seconds * 1e9))


def _request_attributes(scope: Scope) -> Attributes:
    is_websocket = scope["type"] == "websocket"
    scheme = scope.get("scheme", "ws" if is_websocket else "http")
    attributes: Attributes = {"url.scheme": scheme, "url.path": redact(scope["path"])}
    if is_websocket:
        attributes["network.protocol.name"] = "websocket"
    elif (method := scope.get("method", "GET")) in _METHODS:
        attributes["http.request.method"] = method
    else:
        attributes["http.request.method"] = OTHER
        attributes["http.request.method_original"] = method[:40]
    if query := scope.get("query_string"):
        attributes["url.query"] = safe_query(query.decode("latin-1"))
    if version := scope.get("http_version"):
        attributes["network.protocol.version"] = version
    if client := scope.get("client"):
        attributes["client.address"] = client[0]
    host = None
    for name, value in scope["headers"]:
        if name == b"host":
            host = value.decode("latin-1")
        elif name == b"user-agent":
            attributes["user_agent.original"] = redact(value.decode("latin-1"))
    address, port = (scope.get("server") or (None, None)) if host is None else _address_of(host, scheme)
    if address:
        attributes["server.address"] = address
        if port is not None:
            attributes["server.port"] = int(port)  # granian: a text in the scope
    return attributes


def _address_of(host: str, scheme: str) -> tuple[str | None, int | None]:
    """Address and port of a ``Host`` header. A text longer than any host name (RFC 1035) is neither used nor cached."""
    return _authority(host, scheme) if len(host) <= _MAX_HOST else (None, None)


@lru_cache(256)
def _authority(host: str, scheme: str) -> tuple[str, int | None]:
    """Address and port of a ``Host`` header; the port of the scheme where the header names none."""
    address, colon, digits = host.rpartition(":")
    if not colon or not digits.isdigit():
        address, digits = host, ""
    return address, int(digits[:5]) if digits else _PORTS.get(scheme)
