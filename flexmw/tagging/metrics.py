"""The metrics of requests that do not depend on whose server span is open.

Their names and attributes are rows of ``METRICS`` in :mod:`flexmw.kit.semconv`. The metrics of client calls are written
in :mod:`flexmw.tagging.call`, ``http.server.request.duration`` in :mod:`flexmw.tagging.server_span`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.trace import Span

from flexmw.kit.exchange import ErrorOutcome
from flexmw.tagging.core import type_name
from flexmw.tagging.settings import Settings

__all__ = [
    "KEY_HASH_CHARACTERS",
    "count_request",
    "count_slot",
    "record_limit_check",
    "record_settlement",
    "record_store_operation",
]

KEY_HASH_CHARACTERS: Final = 16
"""Of the keyed hash of a caller, on spans and metrics."""


def count_request(
    settings: Settings,
    facts: Mapping[str, Any],
    error_outcome: ErrorOutcome | None,
    *,
    status: int | None,
    route: str | None,
    span: Span | None,
    is_counted: bool,
) -> None:
    """Count a request that is over: by the limiter's result, the idempotency result, and the error response.

    :param facts: span attributes that the components of the request left on the exchange.
    :param status: the status that was sent; ``None`` where none was.
    :param route: the template of the request's route.
    :param span: the span of the request; ``None`` where none was seen.
    :param is_counted: ``flexmw.server.requests`` was counted with the last message of the response.
    """
    count = settings.otel.count
    if not is_counted:
        count("flexmw.server.requests", status, route, span=span)
    if (limit_result := facts.get("flexmw.rate_limiting.result")) is not None:
        policy = facts.get("flexmw.rate_limiting.policy")
        count("flexmw.rate_limiting.requests", limit_result, policy, route, span=span)
    if (idempotency_result := facts.get("flexmw.idempotency.result")) is not None:
        count("flexmw.idempotency.requests", idempotency_result, route, span=span)
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
    """Record the duration of a limiter's decision, and count its caller if the hot ones are wanted.

    :param details: those of the event ``flexmw.rate_limiting.decided``; ``duration`` in seconds.
    :param span: the span of the request; ``None`` where none was seen.
    """
    if (seconds := details.get("duration")) is not None:
        name = "flexmw.rate_limiting.check.duration"
        settings.otel.record(name, seconds, details.get("policy"), details.get("error_type"), span=span)
    hot_callers = settings.hot_callers
    if hot_callers is not None and (caller := details.get("caller")):
        settings.otel.observe("flexmw.rate_limiting.hot_callers", hot_callers.top)
        hot_callers.add(str(caller)[:KEY_HASH_CHARACTERS])


def count_slot(settings: Settings, change: int, details: Mapping[str, Any]) -> None:
    """Count a slot that a request has taken (1) or given back (-1)."""
    settings.otel.add("flexmw.rate_limiting.slots", change, details.get("policy"))


def record_settlement(settings: Settings, details: Mapping[str, Any], span: Span | None) -> None:
    """Count a settlement, and record the error of the estimate where both it and the use are known.

    :param details: those of the event ``flexmw.rate_limiting.settled``.
    :param span: the span of the request; ``None`` where none was seen.
    """
    basis, policy, reserved, used = (details[name] for name in ("basis", "policy", "reserved", "used"))
    settings.otel.count("flexmw.rate_limiting.settlements", basis, policy, span=span)
    if reserved and used and basis in ("usage", "reported"):
        direction = "above" if reserved > used else "below" if reserved < used else "exact"
        error = abs(reserved - used) / used
        settings.otel.record("flexmw.rate_limiting.estimate.error", error, direction, policy, span=span)


def record_store_operation(
    settings: Settings, component: str, operation: str, seconds: float, error: BaseException | None, span: Span | None
) -> None:
    """Record an operation on a store; see :data:`flexmw.kit.store_observer.StoreObserver`."""
    failure = None if error is None else type_name(error)
    settings.otel.record("flexmw.store.operation.duration", seconds, component, operation, failure, span=span)
