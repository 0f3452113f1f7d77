"""The metrics of an ended client call: the outcome, the number of requests, and the delays.

The :class:`Outcome` that a Retry leaves on a response (``response.extensions["flexmw"]``) or on an exception
(``exception.flexmw``) says what is known of the work. Without a Retry, the events of the transport say what was sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.trace import Span

from flexmw.contract.exception_slots import attributes_of
from flexmw.kit.effects import Request
from flexmw.tagging.settings import Settings

__all__ = ["GIVEN_BACK_BEFORE", "Waits", "outcome_of", "record_call", "record_stream", "sent_requests"]

GIVEN_BACK_BEFORE: Final = "given_back_before"
"""The reason of a call that an SDK has repeated, and that Retry has given back again without sending it."""

_KEY: Final = "flexmw"


class Waits:
    """The seconds for which components have delayed one call, by component and reason."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str], float] = {}

    def add(self, event: str, details: Mapping[str, Any]) -> None:
        """Add what an event says: ``flexmw.retry.scheduled`` or ``flexmw.pace.waited``."""
        if event == "flexmw.pace.waited":
            self._add("pace", details.get("reason"), details.get("seconds"))
        else:
            self._add("retry", details.get("delay_source"), details.get("delay"))

    def _add(self, component: str, reason: object, seconds: object) -> None:
        if isinstance(seconds, (int, float)):
            name = component, str(reason)
            self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def record(self, settings: Settings, address: str | None, span: Span | None) -> None:
        """Record the total of each component and reason."""
        for (component, reason), seconds in self._seconds.items():
            settings.otel.record("flexmw.client.wait.duration", seconds, component, reason, address, span=span)


def outcome_of(error: BaseException | None, known: Any) -> Any:
    """The outcome that a Retry has left on an exception, else the one on the response; ``None`` without a Retry.

    :param known: ``response.extensions.get("flexmw")``.
    """
    outcome = known if error is None else attributes_of(error).get(_KEY, known)
    return outcome if isinstance(getattr(outcome, "outcome", None), str) else None


def sent_requests(outcome: Any, *, heads: int, has_response: bool, was_cancelled: bool) -> int:
    """How often the request of a call was sent.

    :param outcome: of :func:`outcome_of`.
    :param heads: request heads that the transport has reported; 0 also for transports that report nothing.
    :param has_response: a response has arrived.
    :param was_cancelled: the caller has left before that.
    """
    if heads:
        return heads
    if outcome is None:
        return int(has_response or not was_cancelled)
    attempts = int(getattr(outcome, "attempts", 1))
    return 0 if outcome.outcome == "unsent" or getattr(outcome, "reason", None) == GIVEN_BACK_BEFORE else attempts


def record_call(
    settings: Settings,
    request: Request,
    outcome: Any,
    error: BaseException | None,
    *,
    sent: int,
    has_response: bool,
    span: Span | None,
) -> None:
    """Count a call that is over.

    :param outcome: of :func:`outcome_of`.
    :param error: what the attempts or the body raised.
    :param sent: of :func:`sent_requests`.
    :param span: the span of the call, for exemplars.
    """
    otel, address = settings.otel, request.url.host if settings.server_address else None
    reason = None if outcome is None else getattr(outcome, "reason", None)
    otel.count("flexmw.client.outcomes", _name_of(outcome, reason, error, has_response), reason, address, span=span)
    if sent:
        otel.count("flexmw.client.requests", request.method, address, span=span, number=sent)


def record_stream(
    settings: Settings, event: str, details: Mapping[str, Any], address: str | None, span: Span | None
) -> None:
    """Count a cut of a streamed response, and how it ended: record the gap of a resumption, or count a loss.

    :param event: ``flexmw.stream.cut``, ``flexmw.stream.resumed`` or ``flexmw.stream.lost``.
    :param address: the called host, where it may be on metrics.
    :param span: the span of the call, for exemplars.
    """
    otel = settings.otel
    if event == "flexmw.stream.cut":
        otel.count("flexmw.client.stream_cuts", details.get("error_type"), address, span=span)
    elif event == "flexmw.stream.resumed":
        otel.record("flexmw.client.stream_gap.duration", details.get("gap", 0.0), address, span=span)
    else:
        otel.count("flexmw.client.stream_losses", details.get("reason"), address, span=span)


def _name_of(outcome: Any, reason: object, error: BaseException | None, has_response: bool) -> str | None:
    """The value of ``flexmw.call.outcome``; ``None`` for the failure of a call without a Retry: nothing is known."""
    if reason == GIVEN_BACK_BEFORE:
        return GIVEN_BACK_BEFORE
    if error is not None and not isinstance(error, Exception):
        return "answered" if has_response and issubclass(type(error), GeneratorExit) else "cancelled"
    if outcome is not None:
        return str(outcome.outcome)
    return "answered" if error is None else None
