"""Telemetry of one request: wraps its ``receive`` and ``send``, writes span attributes while it is served, and records
metrics and its exception when it is over.

The span is looked up inside ``send``: there the span of the app's instrument is certain to be the current one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.trace import INVALID_SPAN

from flexmw.kit.asgi import Message
from flexmw.kit.exchange import ErrorOutcome, dropped
from flexmw.tagging.core import Ending, ending, is_normal_close
from flexmw.tagging.exceptions import emit_store_failure
from flexmw.tagging.gen_ai import usage_attributes
from flexmw.tagging.instruments.current import SPAN_KEY, get_current
from flexmw.tagging.instruments.fastapi import SCOPE_KEY
from flexmw.tagging.metrics import (
    KEY_HASH_CHARACTERS,
    count_request,
    count_slot,
    record_settlement,
    record_store_operation,
)
from flexmw.tagging.request_span import RequestSpan

__all__ = ["BODIES", "RequestTelemetry"]

BODIES: Final = frozenset({"http.response.body", "http.response.pathsend", "websocket.http.response.body"})
"""The messages that carry the body of a response."""


class RequestTelemetry(RequestSpan):
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
    """

    def on_store_operation(self, component: str, operation: str, seconds: float, error: BaseException | None) -> None:
        """Observe an operation on a store of a component further inward."""
        record_store_operation(self.settings, component, operation, seconds, error, self.spans.span)

    async def receive(self) -> Message:
        """The app's ``receive``."""
        message = await self.server_receive()
        if self.on_received(message):
            self.exchange.offer_drop(self._drop)
        return message

    def on_received(self, message: Message) -> bool:
        """Observe a message from the server.

        :returns: whether the client has disconnected before the response was complete.
        """
        kind = message["type"]
        if (kind == "http.disconnect" or kind == "websocket.disconnect") and not self.is_complete:
            self._disconnect()
            return True
        if kind == "websocket.connect":
            self._write_known()
            self._hold_span()
        elif self._gen_ai is not None:
            self._gen_ai.add_request(message.get("body") or b"")
        return False

    async def send(self, message: Message) -> None:
        """The app's ``send``."""
        self.on_message(message)
        send = self.server_send  # as a method it would be looked up on the class first
        try:
            await send(message)
        except OSError as error:
            self.on_send_error(error)
            raise

    def on_message(self, message: Message) -> None:
        """Observe a message from the app, before it is sent."""
        kind = message["type"]
        if kind == "http.response.start":
            self.status = message["status"]
            self._start(message)
        elif kind in BODIES:
            if self._gen_ai is not None:
                self._gen_ai.add(message.get("body") or b"")
            if not message.get("more_body"):
                self._end()
            elif not self.is_stream:
                self._begin_stream()
        elif kind == "websocket.http.response.start":
            self.status = message["status"]
            self._start(message)
        elif kind == "websocket.accept" or kind == "websocket.close":
            self._decide_websocket(is_closed=kind == "websocket.close")

    def on_send_error(self, error: OSError) -> None:
        """Observe that the server has not sent a message, because the client is gone."""
        self.exceptions.send_error = error
        self._disconnect()

    def _drop(self) -> None:
        """Send nothing more to the server."""
        self.server_send = dropped

    def __call__(self, event: str, details: Mapping[str, Any]) -> None:
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
                if self.settings.key_hash and (caller := details.get("caller")):
                    self.exchange.facts["flexmw.rate_limiting.key_hash"] = caller[:KEY_HASH_CHARACTERS]
                if self.spans.span is not None:
                    self._record_checks()
            case "flexmw.rate_limiting.settled":
                record_settlement(self.settings, details, self.spans.span)
                self._write_known()
                if self.settings.gen_ai and details["is_known"]:
                    self.spans.write_now(usage_attributes(details))
            case "flexmw.rate_limiting.slot_taken":
                count_slot(self.settings, 1, details)
            case "flexmw.rate_limiting.slot_released":
                count_slot(self.settings, -1, details)
            case "flexmw.rate_limiting.storage_failed" | "flexmw.idempotency.store_failed":
                emit_store_failure(self.settings, event, details, self.spans.span)
            case _:  # an event of a plugin
                pass

    def _start(self, message: Message) -> None:
        """The response is about to start: the last moment at which the span of every instrument is open."""
        status: int = message["status"]
        if self._held is not None:
            self._held.release(None if status < 400 else status)
        if status >= 500:
            self._start_failed(status)
        else:
            is_in_fastapi = SCOPE_KEY in self.scope
            if is_in_fastapi and self.scope[SCOPE_KEY] is not self.fastapi:
                self._follow_fastapi()
            if self.span is not None or self._spans is not None:
                if self.spans.has_news(self.exchange.facts, self.error_outcome):
                    self._write_known()
            elif (context := get_current()) is not self.context and (
                context.get(SPAN_KEY, INVALID_SPAN).is_recording()  # type: ignore[attr-defined]
                or not self.settings.diagnostics.span_check_done
            ):
                self._write_known()
            if self.arrived is not None and not is_in_fastapi and self.spans.span is None:
                self._open_span_of_unreached()
            if self._checks:
                self._record_checks()
        if self._gen_ai is not None:
            self._gen_ai.begin_message(message)
            self.spans.write_now(self._gen_ai.request_attributes())
        if self._spans is not None:
            self.span = self._spans.span

    def _decide_websocket(self, *, is_closed: bool) -> None:
        """The app accepts or closes a websocket."""
        if SCOPE_KEY in self.scope:
            self._follow_fastapi()
        if self._write_known() is None and self.arrived is not None:
            self._open_span_of_unreached()
        if self._held is not None:
            self._held.release(keep_open=True)
        self._record_checks()
        self.is_complete = is_closed

    def _route(self) -> str | None:
        """``http.route`` of the request."""
        return self.settings.route_of(self.scope, self.fastapi)

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

    def check_for_span(self) -> None:
        """Find out whether a server span is open while the app responds. Called until that is known."""
        diagnostics = self.settings.diagnostics
        if self.spans.span is not None:
            diagnostics.span_check_done = True
        else:
            is_instrumented = self.instrument.opens_span or SCOPE_KEY in self.scope
            diagnostics.check_for_span(self.spans.entry, self.status, is_instrumented=is_instrumented)

    def _count(self) -> None:
        count_request(
            self.settings,
            self.exchange.facts,
            self.error_outcome,
            status=self.status,
            route=self._route(),
            span=self.span if self._spans is None else self._spans.span,
            is_counted=self.is_counted,
        )

    def finish(self, error: BaseException | None) -> None:
        """Write what is left of a request when the app is done.

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
        if known or self.settings.otel.meters:
            self._count()
        if self._own_span is not None:
            self._own_span.end(self.status, spans.error_type, self._route())
        if self._held is not None:
            self._held.finish()
        if exceptions is not None and exceptions.fastapi is not None:
            exceptions.fastapi.set_hook(None)
        if self.settings.key_hash:
            self.settings.diagnostics.check_key_hash(is_known="flexmw.rate_limiting.key_hash" in facts)

    def _error_decided_outside(self, error: Exception) -> None:
        """Note the error that an Envelope further out will send. The span of an instrument in between has closed."""
        if self._map_exception is not None:
            mapping = self._map_exception(error)
            self.error_outcome = ErrorOutcome(
                mapping.status, mapping.error.type, mapping.error.code, mapping.source, error
            )
