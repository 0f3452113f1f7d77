"""What a component's options become once, for all its requests: vocabulary, instruments, what was warned about."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import Span

from flexmw.kit.clock import Clock
from flexmw.kit.semconv import ATTRIBUTES, OTHER
from flexmw.tagging.core import Attributes, Mode, Vocabulary, exception_attributes
from flexmw.tagging.otel import Otel

if TYPE_CHECKING:
    from flexmw.tagging.watch import Watch

__all__ = ["Settings", "closed", "some"]

_log: Final = logging.getLogger("flexmw.tagging")
_LIMITED: Final = ("flexmw.rate_limiting.result", "flexmw.rate_limiting.policy")


class Settings:
    """Shared by every request and call of one Tagging; holds no request's state."""

    def __init__(
        self,
        otel: Otel,
        *,
        vocabulary: Vocabulary,
        clock: Clock,
        route: Callable[[MutableMapping[str, Any]], str | None] | None,
        exception_text: bool,
        server_address: bool,
        call_span: bool,
        server_span: bool,
    ) -> None:
        self.otel, self.vocabulary, self.clock = otel, vocabulary, clock
        self.exception_text, self.server_address = exception_text, server_address
        self.call_span, self.server_span = call_span, server_span
        self._route = route
        self._warned: set[str] = set()

    def route_of(self, scope: MutableMapping[str, Any]) -> Attributes:
        """``http.route``, where the router has said it; never the path."""
        try:
            route = _starlette_route(scope) if self._route is None else self._route(scope)
        except Exception:
            self.warn("route", "Tagging(route=...) raised: requests are told about without http.route")
            route = None
        return {} if route is None else {"http.route": route}

    def count_request(self, watch: Watch) -> None:
        """The counters of one request."""
        facts, answer = watch.exchange.facts, watch.answer
        if not facts and answer is None:
            return
        route: Attributes | None = None
        if "flexmw.rate_limiting.result" in facts:
            route = self.route_of(watch.scope)
            limited = some(*((name, facts.get(name)) for name in _LIMITED))
            self.otel.count("flexmw.rate_limiting.requests", {**limited, **route})
        if "flexmw.idempotency.result" in facts:
            result = some(("flexmw.idempotency.result", facts["flexmw.idempotency.result"]))
            self.otel.count("flexmw.idempotency.requests", result)
        if answer is not None:
            route = self.route_of(watch.scope) if route is None else route
            status = watch.status or answer.status
            self.otel.count(
                "flexmw.server.error_responses", {**watch.facts(), "http.response.status_code": status, **route}
            )

    def checked(self, details: Mapping[str, Any]) -> None:
        """A limiter's decision was made."""
        if (seconds := details.get("duration")) is not None:
            attributes = some(
                ("flexmw.rate_limiting.policy", details.get("policy")), ("error.type", details.get("error_type"))
            )
            self.otel.record("flexmw.rate_limiting.check.duration", seconds, attributes)

    def storage_failed(self, event: str, details: Mapping[str, Any], span: Span | None) -> None:
        """A store did not answer: a limiter's, or that of idempotency keys."""
        if self.otel.logs(event):
            attributes = some(
                ("flexmw.rate_limiting.policy", details.get("policy")),
                ("flexmw.rate_limiting.result", details.get("result")),
            )
            error = details.get("exception")
            if isinstance(error, BaseException):
                attributes |= exception_attributes(error, text=self.exception_text)
            self.otel.emit(event, attributes, span=span)

    def doctor(self, watch: Watch) -> None:
        """Once: a tracer provider is there, but nothing that opens a span where we can see it."""
        if "no span" in self._warned or watch.span is not None or (watch.status or 500) >= 400 or self.server_span:
            return
        if not watch.entry.get_span_context().is_valid and self.otel.traces:
            self.warn(
                "no span",
                "a tracer provider is set, but no server span is open while this app answers: its errors are "
                "not tagged. Instrument the app (FastAPI does by itself; else put OpenTelemetryMiddleware around "
                "the wrapped app), or use Tagging(server_span=True)",
            )

    def unheard(self, mode: Mode) -> None:
        """Exceptions were asked for as logs only, and no logger provider is set."""
        if mode == "logs":
            self.warn(
                "no logger",
                "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN=logs, but no logger provider is set: exceptions are not "
                "recorded. Set one, or unset the variable to have them on spans",
            )

    def warn(self, topic: str, text: str) -> None:
        """Say it once per component."""
        if topic not in self._warned:
            self._warned.add(topic)
            _log.warning("%s", text)


def closed(name: str, value: object) -> str | None:
    """A value of a closed attribute; anything else becomes ``_OTHER``."""
    if value is None:
        return None
    return value if isinstance(value, str) and value in ATTRIBUTES[name].values else OTHER


def some(*pairs: tuple[str, Any]) -> Attributes:
    """Pairs without those that are ``None``, closed values held to their set."""
    found: Attributes = {}
    for name, value in pairs:
        if value is not None:
            known = closed(name, value) if ATTRIBUTES[name].values else value
            found[name] = value if known is None else known
    return found


def _starlette_route(scope: MutableMapping[str, Any]) -> str | None:
    path = getattr(scope.get("route"), "path_format", None)
    return scope.get("root_path", "").rstrip("/") + path if isinstance(path, str) else None
