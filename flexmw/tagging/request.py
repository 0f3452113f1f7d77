"""Telemetry of one request: wraps its ``receive`` and ``send``, writes span attributes while it is served, and records
metrics and its exception when it is over.

The span is looked up inside ``send``: there the span of the app's instrument is certain to be the current one.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from time import time_ns
from typing import Any, Final

from opentelemetry.context import get_current
from opentelemetry.trace import Span

from flexmw.kit.asgi import Message, Receive, Scope, Send
from flexmw.kit.exchange import ErrorOutcome, Exchange
from flexmw.tagging.core import DISCONNECTED, INCOMPLETE, Ending, ending, error_type, is_normal_close
from flexmw.tagging.exceptions import ExceptionRecorder, emit_store_failure
from flexmw.tagging.gen_ai import GenAi, usage_attributes
from flexmw.tagging.instruments import AppInstrument, has_reached
from flexmw.tagging.instruments.fastapi import SCOPE_KEY
from flexmw.tagging.instruments.sdk import HeldSpan, ignore_errors
from flexmw.tagging.metrics import (
    KEY_HASH_CHARACTERS,
    count_request,
    count_slot,
    record_limit_check,
    record_settlement,
    record_store_operation,
)
from flexmw.tagging.server_span import ServerSpan
from flexmw.tagging.settings import Settings
from flexmw.tagging.span_writer import SpanWriter
from flexmw.tagging.spans import is_server, is_span_open, set_error_status

__all__ = ["RequestTelemetry"]

_BODIES: Final = frozenset({"http.response.body", "http.response.pathsend", "websocket.http.response.body"})


class RequestTelemetry:
    """The state of one request, from its arrival until the app is done.

    Each ASGI message, each event of the exchange and the end of the app moves the request on:

    ==========================  ===============================  ====================================================
    What happens                State                            What is written
    ==========================  ===============================  ====================================================
    request arrives                                              nothing; the current span and exception are noted
    response starts, < 500      ``status``                       facts and error outcome, if a span records
    response starts, >= 500     ``status``, candidate exception  the same; status ERROR; ``error.type``, except on the
                                                                 SERVER span of an instrument
    ``flexmw.error.decided``    ``error_outcome``                facts and error outcome
    ``flexmw.stream.held``      ``_held``                        nothing: the span of an instrument inside is held
    ``flexmw.stream.began``,    ``is_stream``                    ``flexmw.response.outcome`` = ``failed``, in advance:
    body, and more to come                                       if the app raises, its span ends before this is known
    last body                   ``is_complete``                  the outcome of a stream; the candidate exception
    client disconnects,         ``is_disconnected``              the outcome of a stream
    ``send`` raises OSError
    websocket accept or close   ``is_complete`` on close         facts and error outcome
    app returns or raises                                        what is new; outcome and ``error.type`` of a response
                                                                 that is not complete; exception; metrics
    ==========================  ===============================  ====================================================

    ``_map_exception`` is the function of an Envelope further out. It maps an exception to the error response that the
    Envelope will send.
    The span and what is on it are kept by :class:`SpanWriter`, exceptions by :class:`ExceptionRecorder`.
    """

    __slots__ = (
        "_arrived",
        "_checks",
        "_enclosing",
        "_exceptions",
        "_gen_ai",
        "_held",
        "_instrument",
        "_map_exception",
        "_own_span",
        "_receive",
        "_send",
        "_settings",
        "error_outcome",
        "exchange",
        "is_complete",
        "is_disconnected",
        "is_stream",
        "scope",
        "spans",
        "status",
    )

    def __init__(
        self,
        settings: Settings,
        scope: Scope,
        receive: Receive,
        send: Send,
        own_span: ServerSpan | None,
        instrument: AppInstrument,
    ) -> None:
        self._settings, self.scope, self._own_span, self._instrument = settings, scope, own_span, instrument
        self._arrived = (time_ns(), settings.clock.monotonic()) if instrument.opens_span else None
        self._receive, self._send = receive, send
        self.exchange = exchange = Exchange.of(scope)
        exchange.subscribe(self.on_event)
        # An Envelope further out sends the response to an exception of the app, but not to one of a websocket.
        self._map_exception = exchange.map_exception if exchange.enveloped and scope["type"] == "http" else None
        self.spans = SpanWriter(settings, scope, None if own_span is None else own_span.span)
        self._enclosing = sys.exception()
        fastapi = scope.get(SCOPE_KEY)
        self._exceptions: ExceptionRecorder | None = None
        if fastapi is not None:
            self._exceptions = ExceptionRecorder(settings, scope, self._enclosing, fastapi)
        self._checks: tuple[Mapping[str, Any], ...] = ()
        self._held: HeldSpan | None = None
        self._gen_ai = GenAi.of_scope(scope) if settings.gen_ai else None
        self.status: int | None = None
        self.error_outcome: ErrorOutcome | None = None
        self.is_stream = self.is_complete = self.is_disconnected = False

    @property
    def exceptions(self) -> ExceptionRecorder:
        """The recorder of the request's exception. It is made when it is needed: most requests have no exception."""
        if self._exceptions is None:
            self._exceptions = ExceptionRecorder(self._settings, self.scope, self._enclosing)
        return self._exceptions

    def on_store_operation(self, component: str, operation: str, seconds: float, error: BaseException | None) -> None:
        """Observe an operation on a store of a component further inward."""
        record_store_operation(self._settings, component, operation, seconds, error, self.spans.span)

    async def receive(self) -> Message:
        """The app's ``receive``."""
        message = await self._receive()
        kind = message["type"]
        if (kind == "http.disconnect" or kind == "websocket.disconnect") and not self.is_complete:
            self._disconnect()
        elif kind == "websocket.connect":
            self._write_known()
            self._hold_span()
        elif self._gen_ai is not None:
            self._gen_ai.add_request(message.get("body") or b"")
        return message

    async def send(self, message: Message) -> None:
        """The app's ``send``."""
        kind = message["type"]
        if kind == "http.response.start" or kind == "websocket.http.response.start":
            self._start(message["status"])
            if self._gen_ai is not None:
                self._gen_ai.begin_message(message)
                self.spans.write_now(self._gen_ai.request_attributes())
        elif kind in _BODIES:
            if self._gen_ai is not None:
                self._gen_ai.add(message.get("body") or b"")
            if not message.get("more_body", False):
                self._end()
            elif not self.is_stream:
                self._begin_stream()
        elif kind == "websocket.accept" or kind == "websocket.close":
            if SCOPE_KEY in self.scope:
                self._follow_fastapi()
            if self._write_known() is None and self._arrived is not None:
                self._open_span_of_unreached()
            if self._held is not None:
                self._held.release(keep_open=True)
            self._record_checks()
            self.is_complete = kind == "websocket.close"
        try:
            await self._send(message)
        except OSError as error:
            self.exceptions.send_error = error
            self._disconnect()
            raise

    def on_event(self, event: str, details: Mapping[str, Any]) -> None:
        """Observe an event of a component further inward."""
        match event:
            case "flexmw.error.decided":
                self.error_outcome = outcome = details["outcome"]
                if outcome.status >= 500 or self.status is not None:
                    self._find_candidate(outcome.exception)
                self._write_known()
            case "flexmw.stream.held":
                self._hold_span()
            case "flexmw.stream.began":
                self.is_stream = True
                self._write_outcome("failed")
            case "flexmw.stream.ended":
                self._write_outcome("client_disconnected" if self.is_disconnected else "complete")
            case "flexmw.rate_limiting.decided":
                self._checks = (*self._checks, details)
                if self._settings.key_hash and (caller := details.get("caller")):
                    self.exchange.facts["flexmw.rate_limiting.key_hash"] = caller[:KEY_HASH_CHARACTERS]
                if self.spans.span is not None:
                    self._record_checks()
            case "flexmw.rate_limiting.settled":
                record_settlement(self._settings, details, self.spans.span)
                self._write_known()
                if self._settings.gen_ai and details["is_known"]:
                    self.spans.write_now(usage_attributes(details))
            case "flexmw.rate_limiting.slot_taken":
                count_slot(self._settings, 1, details)
            case "flexmw.rate_limiting.slot_released":
                count_slot(self._settings, -1, details)
            case "flexmw.rate_limiting.storage_failed" | "flexmw.idempotency.store_failed":
                emit_store_failure(self._settings, event, details, self.spans.span)
            case _:  # an event of a plugin
                pass

    def _start(self, status: int) -> None:
        """The response is about to start: the last moment at which the span of every instrument is open."""
        self.status = status
        if self._held is not None:
            self._held.release(None if status < 400 else status)
        if status < 500:
            if SCOPE_KEY in self.scope:
                self._follow_fastapi()
            spans = self.spans
            if spans.span is not None or get_current() is not spans.context:
                spans.write_known(self.exchange.facts, self.error_outcome, self.scope["headers"])
            if spans.span is None and self._arrived is not None:
                self._open_span_of_unreached()
            if self._checks:
                self._record_checks()
            return
        self._find_candidate(None)
        span = self._write_known()
        if span is None and self._arrived is not None and self._open_span_of_unreached():
            span = self.spans.span
        self._record_checks()
        if span is not None and not (self.is_disconnected and self._settings.on_disconnect == "unset"):
            set_error_status(span)
            if not is_server(span) or self._own_span is not None:
                self.spans.write(span, {"error.type": str(status)})

    def _open_span_of_unreached(self) -> bool:
        """Open the server span of a request that is answered before it reaches the app whose instrument opens one."""
        if self._own_span is not None or is_span_open(self.spans.entry) or not self._settings.otel.traces:
            return False
        if has_reached(self._instrument, self.scope, self.exchange.facts, self.error_outcome):
            return False
        self._own_span = ServerSpan(
            self._settings, self.scope, is_measured=self._instrument.measures, arrived=self._arrived
        )
        self.spans.use_own(self._own_span.span)
        self._write_known()
        return True

    def _record_checks(self) -> None:
        """Record the decisions of limiters. Where the app's span is opened further inward, they wait for it, because
        the exemplars of their durations name it."""
        checks, self._checks = self._checks, ()
        for details in checks:
            record_limit_check(self._settings, details, self.spans.span)

    def _route(self) -> str | None:
        exceptions = self._exceptions
        return self._settings.route_of(self.scope) if exceptions is None else exceptions.route()

    def _hold_span(self) -> None:
        """Hold the span of an instrument inside of an Envelope that holds the head of a stream, or that of a websocket.
        Where the app fails, the instrument ends the span before the Envelope sends its error."""
        span = self.spans.target()
        if self.status is None and self._held is None and span is not None and span is not self.spans.entry:
            self._held = HeldSpan.of(span)

    def _begin_stream(self) -> None:
        self.is_stream = True
        if self.spans.span is not self.spans.entry:
            self._write_outcome("failed")

    def _end(self) -> None:
        if self._gen_ai is not None:
            self.spans.write_now(self._gen_ai.response_attributes())
        if self.is_stream and not self.is_disconnected:
            self._write_outcome("failed" if self._is_broken() else "complete")
        self.is_complete = True
        exceptions = self._exceptions
        if exceptions is not None and exceptions.candidate is not None:
            exceptions.before_last_body(self.spans.target(), self.status)

    def _disconnect(self) -> None:
        self.is_disconnected = True
        if self._held is not None:
            self._held.release()
        if self._settings.on_disconnect == "unset" and (span := self.spans.target()) is not None:
            ignore_errors(span)
        if self.is_stream and not self.is_complete:
            self._write_outcome("client_disconnected")

    def _is_broken(self) -> bool:
        """Whether the body was ended by an error event after a successful start."""
        outcome = self.error_outcome
        return outcome is not None and outcome.exception is not None and (self.status or 500) < 400

    def _write_outcome(self, outcome: Ending) -> None:
        span = self.spans.target()
        if span is not None:
            self.spans.write(span, {"flexmw.response.outcome": outcome})
            if outcome == "failed" and self._is_broken():
                set_error_status(span)
                self.spans.write(span, {"error.type": error_type(None, self.exceptions.candidate) or INCOMPLETE})
            elif outcome == "client_disconnected":
                self._write_disconnect(span, None)

    def _write_disconnect(self, span: Span, error: BaseException | None) -> None:
        """Make the span of a request whose client has disconnected an error, unless that is the instrument's to say.

        An instrument says so where the server has raised in ``send``, but an Envelope in between keeps that from it.
        """
        mode = self._settings.on_disconnect
        is_raised = self._own_span is not None or self.exceptions.send_error is not None
        if mode == "error" or (mode == "host" and is_raised):
            set_error_status(span)
            self.spans.write(span, {"error.type": error_type(None, error) or DISCONNECTED})

    def _write_known(self) -> Span | None:
        return self.spans.write_known(self.exchange.facts, self.error_outcome, self.scope["headers"])

    def _follow_fastapi(self) -> None:
        self.exceptions.follow_fastapi(self._on_fastapi_exception)

    def _on_fastapi_exception(self, error: BaseException | None) -> None:
        """Take an exception that FastAPI has caught, unless a handler may still turn it into a response."""
        if self.status is not None or self.scope["type"] != "http":
            self.exceptions.fastapi_raised(error, self.spans.target(), self.status)

    def _find_candidate(self, error: BaseException | None) -> None:
        if SCOPE_KEY in self.scope:
            self._follow_fastapi()
        self.exceptions.find_candidate(error)

    def finish(self, error: BaseException | None) -> None:
        """Write what is left when the app is done.

        :param error: what the app has raised.
        """
        is_polite = self.is_complete and self.is_stream and self.is_disconnected
        if self.scope["type"] == "websocket":
            complete = error is None or is_normal_close(error)
        else:
            complete = self.is_complete and not is_polite
        how: Ending = (
            "client_disconnected" if is_polite else ending(error, complete=complete, disconnected=self.is_disconnected)
        )
        if self._map_exception is not None and self.error_outcome is None and isinstance(error, Exception):
            self._error_decided_outside(error)
        facts, spans, exceptions = self.exchange.facts, self.spans, self._exceptions
        known = self.error_outcome is not None or bool(facts)
        if error is not None or not complete or (known and spans.is_news(facts, self.error_outcome)):
            self._write_ending(error, how)
        if error is not None or (exceptions is not None and exceptions.has_exception):
            exceptions = self.exceptions
            spans.span = exceptions.finish(
                error,
                how,
                span=spans.span,
                entry=spans.entry,
                is_own=self._own_span is not None,
                status=self.status,
                error_outcome=self.error_outcome,
            )
        self._record_checks()
        if known or self._settings.otel.meters:
            count_request(
                self._settings, facts, self.error_outcome, status=self.status, route=self._route(), span=spans.span
            )
        diagnostics = self._settings.diagnostics
        if self._settings.key_hash:
            diagnostics.check_key_hash(is_known="flexmw.rate_limiting.key_hash" in facts)
        if spans.span is None and not diagnostics.span_check_done:
            is_instrumented = self._instrument.opens_span or SCOPE_KEY in self.scope
            diagnostics.check_for_span(spans.entry, self.status, is_instrumented=is_instrumented)
        if self._own_span is not None:
            self._own_span.end(self.status, spans.error_type, self._route())
        if self._held is not None:
            self._held.finish()
        if exceptions is not None and exceptions.fastapi is not None:
            exceptions.fastapi.set_hook(None)
        self.exchange.unsubscribe(self.on_event)

    def _error_decided_outside(self, error: Exception) -> None:
        """Note the error that an Envelope further out will send. The span of an instrument in between has closed."""
        if self._map_exception is not None:
            mapping = self._map_exception(error)
            self.error_outcome = ErrorOutcome(
                mapping.status, mapping.error.type, mapping.error.code, mapping.source, error
            )

    def _write_ending(self, error: BaseException | None, how: Ending) -> None:
        span = self._write_known()
        if span is None or how == "complete":
            return
        if self.status is not None and self.scope["type"] != "websocket":
            self.spans.write(span, {"flexmw.response.outcome": how})
        if how == "client_disconnected":
            self._write_disconnect(span, error or self.exceptions.candidate)
        elif how != "cancelled":
            set_error_status(span)
            self.spans.write(span, {"error.type": error_type(None, error or self.exceptions.candidate) or INCOMPLETE})
