"""The metrics of requests that do not depend on whose server span is open: two counters, error responses, one duration.

Their names and attributes are rows of ``METRICS`` in :mod:`flexmw.kit.semconv`. The metrics of client calls are written
in :mod:`flexmw.tagging.call`, ``http.server.request.duration`` in :mod:`flexmw.tagging.server_span`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.trace import Span

from flexmw.kit.exchange import ErrorOutcome
from flexmw.tagging.settings import Settings

__all__ = ["count_request", "record_limit_check"]


def count_request(
    settings: Settings,
    facts: Mapping[str, Any],
    error_outcome: ErrorOutcome | None,
    *,
    status: int | None,
    route: str | None,
    span: Span | None,
) -> None:
    """Count a request that is over: by the limiter's result, the idempotency result, and the error response.

    :param facts: span attributes that the components of the request left on the exchange.
    :param status: the status that was sent; ``None`` where none was.
    :param route: the template of the request's route.
    :param span: the span of the request; ``None`` where none was seen.
    """
    count = settings.otel.count
    if (limit_result := facts.get("flexmw.rate_limiting.result")) is not None:
        policy = facts.get("flexmw.rate_limiting.policy")
        count("flexmw.rate_limiting.requests", limit_result, policy, route, span=span)
    if (idempotency_result := facts.get("flexmw.idempotency.result")) is not None:
        count("flexmw.idempotency.requests", idempotency_result, span=span)
        if "flexmw.idempotency.credential" in facts:
            count("flexmw.idempotency.changed_credentials", idempotency_result, span=span)
    if error_outcome is not None:
        attributes = settings.attributes_of(error_outcome)
        count(
            "flexmw.server.error_responses",
            attributes.get("flexmw.error.type"),
            attributes.get("flexmw.error.code"),
            attributes.get("flexmw.error.source"),
            status or error_outcome.status,
            route,
            span=span,
        )


def record_limit_check(settings: Settings, details: Mapping[str, Any], span: Span | None) -> None:
    """Record the duration of a limiter's decision.

    :param details: those of the event ``flexmw.rate_limiting.decided``; ``duration`` in seconds.
    :param span: the span of the request; ``None`` where none was seen.
    """
    if (seconds := details.get("duration")) is not None:
        name = "flexmw.rate_limiting.check.duration"
        settings.otel.record(name, seconds, details.get("policy"), details.get("error_type"), span=span)
