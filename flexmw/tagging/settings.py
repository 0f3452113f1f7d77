"""What a component's options become once, for all its requests: vocabulary, instruments, what was warned about."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import Span

from flexmw.kit.clock import Clock
from flexmw.kit.exchange import ErrorOutcome
from flexmw.tagging.cardinality import some
from flexmw.tagging.core import Attributes, Mode, Vocabulary, exception_attributes
from flexmw.tagging.otel import Otel

if TYPE_CHECKING:
    from flexmw.tagging.request import Watch

__all__ = ["Settings"]

_log: Final = logging.getLogger("flexmw.tagging")
_KINDS: Final = 256
"""Kinds of error answers whose attributes are kept; their codes may be anybody's."""


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
        self.placed = False
        """Nothing is left to be said about whether spans are seen here."""
        self._warned: set[str] = set()
        self._facts: dict[tuple[str | None, str | None, str], Attributes] = {}

    def route_of(self, scope: MutableMapping[str, Any]) -> str | None:
        """``http.route``, where the router has said it; never the path."""
        try:
            return _starlette_route(scope) if self._route is None else self._route(scope)
        except Exception:
            self.warn("route", "Tagging(route=...) raised: requests are told about without http.route")
            return None

    def facts_of(self, answer: ErrorOutcome) -> Attributes:
        """What an answer says of its error. Not to be changed: the same object for all answers of a kind."""
        kind = (answer.type, answer.code, answer.source)
        facts = self._facts.get(kind)
        if facts is None:
            facts = self.vocabulary.facts(*kind)
            if len(self._facts) < _KINDS:
                self._facts[kind] = facts
        return facts

    def count_request(self, watch: Watch) -> None:
        """The counters of one request."""
        facts, answer = watch.exchange.facts, watch.answer
        count = self.otel.count
        limited = facts.get("flexmw.rate_limiting.result")
        route = None if limited is None and answer is None else self.route_of(watch.scope)
        if limited is not None:
            count("flexmw.rate_limiting.requests", limited, facts.get("flexmw.rate_limiting.policy"), route)
        if (result := facts.get("flexmw.idempotency.result")) is not None:
            count("flexmw.idempotency.requests", result)
        if answer is not None:
            said = self.facts_of(answer)
            count(
                "flexmw.server.error_responses",
                said.get("flexmw.error.type"),
                said.get("flexmw.error.code"),
                said.get("flexmw.error.source"),
                watch.status or answer.status,
                route,
            )

    def checked(self, details: Mapping[str, Any]) -> None:
        """A limiter's decision was made."""
        if (seconds := details.get("duration")) is not None:
            policy, error_type = details.get("policy"), details.get("error_type")
            self.otel.record("flexmw.rate_limiting.check.duration", seconds, policy, error_type)

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
        if watch.entry.get_span_context().is_valid or self.server_span:
            self.placed = True
        elif (watch.status or 500) < 400 and self.otel.traces:
            self.placed = True
            self.warn(
                "no span",
                "a tracer provider is set, but no server span is open while this app answers: its errors are "
                "not tagged. Instrument the app (FastAPI does by itself; else put OpenTelemetryMiddleware around "
                "the wrapped app), or use Tagging(server_span=True)",
            )

    def turned_round(self) -> None:
        """Once: the host's own span is inside Tagging, and Starlette answers a crash when that span has closed."""
        self.warn(
            "turned round",
            "Starlette's OpenTelemetryMiddleware closes its span before an unhandled exception is answered: the answer "
            "is counted, but not on the span. Put it around: app = OpenTelemetryMiddleware(flexmw.wrap_app(app))",
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


def _starlette_route(scope: MutableMapping[str, Any]) -> str | None:
    path = getattr(scope.get("route"), "path_format", None)
    return scope.get("root_path", "").rstrip("/") + path if isinstance(path, str) else None
