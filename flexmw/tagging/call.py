"""Telemetry of one client call: observes its attempts, writes to their spans, and records the whole call when it ends.

A call is what the caller asked for; an attempt is one request on the wire. The span of an attempt belongs to the
instrumentor of the client library (:mod:`flexmw.tagging.attempt_span`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry.trace import Span

from flexmw.contract.request_secrets import secrets_in
from flexmw.kit.effects import RESENDS, Request, Response, head_leaves
from flexmw.kit.semconv import ATTRIBUTES, OTHER
from flexmw.tagging.attempt_span import is_http_client, write_resend_count
from flexmw.tagging.call_body import BodyPrefix, StreamTail, has_readable_body, is_event_stream
from flexmw.tagging.call_metrics import (
    GIVEN_BACK_BEFORE,
    Waits,
    outcome_of,
    record_call,
    record_stream,
    sent_requests,
)
from flexmw.tagging.call_span import CallSpan
from flexmw.tagging.cardinality import attributes_of
from flexmw.tagging.core import Attributes, call_outcome, error_type, exception_attributes, resend_count
from flexmw.tagging.gen_ai import GenAi, body_in_memory
from flexmw.tagging.instruments.httpx import library_left_out
from flexmw.tagging.settings import Settings
from flexmw.tagging.spans import current_span

__all__ = ["CallTelemetry"]

_METHODS: Final = frozenset(ATTRIBUTES["http.request.method"].values)


class CallTelemetry:
    """The state of one call, over all its attempts, until its body has ended.

    =============  =============================================================================================
    ``status``     the status of the response; ``None`` before it and where the call raised
    ``outcome``    what a Retry has left on the response
    ``_waits``     the seconds for which components have delayed the call
    ``_span``      flexmw's own span of the call, with ``Tagging(call_span=True)``
    ``_outer``     the span that was current when the call began
    ``_parent``    the current span outside of the transport; another current span is that of an attempt
    ``_attempt``   the span of the last attempt that was seen
    ``_last``      the span of an attempt that was written to last
    ``_scheduled`` retries announced so far, those of a Retry further outward included
    ``_sent``      request heads that have left so far
    ``_safety``    why the scheduled retry is safe
    ``_upstream``  the upstream that a Fallback has sent the call to after another one
    ``_body``      the beginning of an error body, for ``_span``
    ``_stream``    the end of an event stream
    ``_gen_ai``    with ``Tagging(gen_ai=True)``, what is copied of a call to a language model
    =============  =============================================================================================
    """

    __slots__ = (
        "_attempt",
        "_body",
        "_gen_ai",
        "_last",
        "_outer",
        "_parent",
        "_request",
        "_safety",
        "_scheduled",
        "_sent",
        "_settings",
        "_span",
        "_started",
        "_stream",
        "_upstream",
        "_waits",
        "outcome",
        "status",
    )

    def __init__(self, settings: Settings, request: Request) -> None:
        self._settings, self._request = settings, request
        self._started = settings.clock.monotonic()
        self._span = CallSpan(settings.otel) if settings.call_span and settings.otel.live else None
        self._outer = self._parent = current_span()
        self._attempt: Span | None = None
        self._last: Span | None = None
        self._scheduled: int = request.extensions.get(RESENDS, 0)
        self._sent = 0
        self._safety: str | None = None
        self._upstream: str | None = None
        self._body: BodyPrefix | None = None
        self._stream: StreamTail | None = None
        self._gen_ai: GenAi | None = None
        if settings.gen_ai:
            self._gen_ai = GenAi.of(request.method, request.url.path, request.url.host)
        if self._gen_ai is not None:
            self._gen_ai.add_request(body_in_memory(request))
        self._waits = Waits()
        self.outcome: Any = None
        self.status: int | None = None

    def enter(self) -> None:
        """Before the first attempt."""
        if self._span is not None:
            self._span.enter()
            self._parent = current_span()

    def leave(self, error: BaseException | None) -> None:
        """After the last attempt; ``error`` is what it raised."""
        if self._span is not None:
            self._span.leave(error)

    def tap(self, response: Response) -> Callable[[bytes], None] | None:
        """A function that takes the chunks of the body: of an event stream, to know whether it was whole; of an error,
        where a span of flexmw's own can show it; of a language model, with ``Tagging(gen_ai=True)``."""
        tap, gen_ai = self._tap(response), self._gen_ai
        if gen_ai is None or self._span is None:
            return tap
        gen_ai.begin(response.headers)
        if tap is None:
            return gen_ai.add

        def add(chunk: bytes) -> None:
            tap(chunk)
            gen_ai.add(chunk)

        return add

    def _tap(self, response: Response) -> Callable[[bytes], None] | None:
        if is_event_stream(response.headers):
            self._stream = StreamTail()
            return self._stream.add
        if self._span is None or response.status_code < 400 or not has_readable_body(response.headers):
            return None
        self._body = BodyPrefix()
        return self._body.add

    def on_event(self, event: str, details: Mapping[str, Any]) -> None:
        """Observe an event of the transport, or of a Retry further inward."""
        match event:
            case "flexmw.retry.scheduled":
                self._schedule_retry(details)
            case "flexmw.retry.stopped":
                self._stop(details)
            case "flexmw.fallback.switched":
                self._switch(details)
            case "flexmw.pace.waited":
                self._waits.add(event, details)
            case "flexmw.pace.store_operated":
                seconds, failure = details.get("seconds", 0.0), details.get("error_type")
                self._settings.otel.record(
                    "flexmw.store.operation.duration", seconds, "pace", "swap", failure, span=self._known_span()
                )
            case "flexmw.stream.cut" | "flexmw.stream.resumed" | "flexmw.stream.lost":
                record_stream(self._settings, event, details, self._address, self._known_span())
            case _:
                self._observe_attempt(event, details)

    def _observe_attempt(self, event: str, details: Mapping[str, Any]) -> None:
        is_head = head_leaves(event, details)
        count = resend_count(scheduled=self._scheduled, sent=self._sent)
        self._sent += is_head
        span = current_span()
        if span is self._last or not span.is_recording():
            return
        self._settings.otel.live = True
        if span is self._parent:
            if is_http_client(self._outer):
                self._settings.diagnostics.instrumented_after_wrapping()
            return
        if self._gen_ai is not None and span is not self._attempt:
            span.set_attributes(self._gen_ai.request_attributes())
        if self._upstream is not None and span is not self._attempt:
            span.set_attribute("flexmw.fallback.upstream", self._upstream)
        self._attempt = span
        if (count and is_head) or self._scheduled:
            self._last = span
            write_resend_count(span, count, self._safety)

    def _schedule_retry(self, details: Mapping[str, Any]) -> None:
        otel, name = self._settings.otel, "flexmw.retry.scheduled"
        self._scheduled += 1
        safety = attributes_of(("flexmw.retry.safety", details.get("safety")))
        self._safety = str(safety["flexmw.retry.safety"]) if safety else None
        source, failure = details.get("delay_source"), details.get("error_type")
        otel.count("flexmw.client.retries", source, failure, self._address, span=self._known_span())
        self._waits.add(name, details)
        if otel.logs(name):
            attributes = attributes_of(
                ("flexmw.retry.delay_source", source),
                ("error.type", failure),
                ("http.request.resend_count", self._scheduled),
                ("flexmw.retry.delay", details.get("delay")),
            )
            otel.emit(name, {**attributes, **safety})

    def _switch(self, details: Mapping[str, Any]) -> None:
        otel, name = self._settings.otel, "flexmw.fallback.switched"
        self._upstream = str(details.get("to"))
        if otel.logs(name):
            otel.emit(
                name,
                {
                    "flexmw.fallback.from": str(details.get("from")),
                    "flexmw.fallback.upstream": self._upstream,
                    "flexmw.fallback.reason": str(details.get("why")),
                },
            )

    def _stop(self, details: Mapping[str, Any]) -> None:
        otel, name = self._settings.otel, "flexmw.retry.stopped"
        reason, safety = details.get("stop_reason"), details.get("safety")
        attributes = attributes_of(("flexmw.retry.stop_reason", reason), ("flexmw.retry.safety", safety))
        otel.count("flexmw.client.retry_stops", reason, safety, self._address, span=self._known_span())
        if self._span is not None:
            self._span.write(attributes)
        quiet = reason == "unsafe_method"
        if otel.logs(name, quiet=quiet):
            otel.emit(name, {**attributes, **attributes_of(("error.type", details.get("error_type")))}, quiet=quiet)

    def finish(self, error: BaseException | None) -> None:
        """Record the call when its body has ended or it has failed.

        :param error: what the attempts or the body raised; ``GeneratorExit`` where the caller closed the body early.
        """
        settings = self._settings
        failure = error if isinstance(error, Exception) else None
        request, status = self._request, self.status
        failure_type = error_type(status or 200, failure, server=False)
        outcome = call_outcome(error)
        if outcome == "abandoned" and self._stream is not None and self._stream.is_whole():
            outcome = "complete"  # SDKs close an event stream after its last event, without reading the end of the body
        known = outcome_of(error, self.outcome)
        is_repetition = known is not None and getattr(known, "reason", None) == GIVEN_BACK_BEFORE
        if is_repetition:  # the failure was recorded when it happened
            self._stop({"stop_reason": GIVEN_BACK_BEFORE, "safety": "none", "error_type": failure_type})
            failure, failure_type = None, GIVEN_BACK_BEFORE
        has_response, was_cancelled = status is not None, outcome == "cancelled"
        sent = sent_requests(known, heads=self._sent, has_response=has_response, was_cancelled=was_cancelled)
        record_call(settings, request, known, error, sent=sent, has_response=has_response, span=self._known_span())
        self._waits.record(settings, self._address, self._known_span())
        settings.otel.record(
            "flexmw.client.operation.duration",
            settings.clock.monotonic() - self._started,
            request.method,
            request.url.host if settings.server_address else None,
            status,
            failure_type,
            outcome if outcome in ("cancelled", "abandoned") and status is not None else None,
            span=self._known_span(),
        )
        if self._span is not None:
            body = None if self._body is None else self._body.error()
            attributes = {} if body is None else settings.error_attributes(body.type, body.code, None)
            if self._gen_ai is not None:
                attributes = {
                    **attributes,
                    **self._gen_ai.request_attributes(),
                    **self._gen_ai.response_attributes(),
                }
            if isinstance(upstream := getattr(known, "upstream", None), str):
                attributes = {**attributes, "flexmw.fallback.upstream": upstream}
            attempts = 0 if is_repetition else max(1, self._sent, self._scheduled + 1)
            self._span.end(attempts, failure_type, {**attributes, "flexmw.response.outcome": outcome})
        if self._attempt is None and self._sent and not settings.diagnostics.library_check_done:
            self._check_library()
        if failure is not None:
            self._record(failure)

    @property
    def _address(self) -> str | None:
        """The called host, where it may be on metrics."""
        return self._request.url.host if self._settings.server_address else None

    def _known_span(self) -> Span | None:
        """The span that metrics and events of the call belong to: its own, else the caller's, else the last attempt's.
        The call may end in another context than it began in."""
        if self._span is not None:
            return self._span.span
        return self._outer if self._outer.get_span_context().is_valid else self._attempt

    def _check_library(self) -> None:
        """Look once whether the client is instrumented, of two libraries that look alike."""
        diagnostics = self._settings.diagnostics
        if self._settings.otel.traces:
            diagnostics.library_check_done = True
            if (library := library_left_out(self._request)) is not None:
                diagnostics.library_left_out(library)

    def _record(self, error: Exception) -> None:
        settings, name = self._settings, "http.client.request.exception"
        if settings.otel.logs(name):
            request = self._request
            secrets = secrets_in(
                ((key.lower(), value) for key, value in request.headers.items()),
                request.url.query.decode("latin-1"),
            )
            settings.otel.emit(
                name,
                {**exception_attributes(error, secrets, text=settings.exception_text), **self._attributes()},
                span=self._known_span(),
            )

    def _attributes(self) -> Attributes:
        request = self._request
        attributes: Attributes = {"http.request.method": request.method if request.method in _METHODS else OTHER}
        if self._settings.server_address:
            attributes["server.address"] = request.url.host
        return attributes
