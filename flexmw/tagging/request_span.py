"""State of one request, and the attributes of its span: the outcome, the error, and the facts of the components.

:class:`flexmw.tagging.request.RequestTelemetry` moves the state on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import Span

from flexmw.contract.exceptions import ErrorMapping
from flexmw.kit.asgi import Receive, Scope, Send
from flexmw.kit.exchange import ErrorOutcome, Exchange
from flexmw.tagging.core import DISCONNECTED, INCOMPLETE, Ending, error_type
from flexmw.tagging.exceptions import ExceptionRecorder
from flexmw.tagging.gen_ai import GenAi
from flexmw.tagging.instruments import AppInstrument, has_reached
from flexmw.tagging.instruments.fastapi import SCOPE_KEY, has_logger
from flexmw.tagging.instruments.sdk import HeldSpan, ignore_errors
from flexmw.tagging.metrics import record_limit_check
from flexmw.tagging.server_span import ServerSpan
from flexmw.tagging.settings import Settings
from flexmw.tagging.span_writer import SpanWriter
from flexmw.tagging.spans import is_server, is_span_open, set_error_status

__all__ = ["RequestSpan"]


class RequestSpan:
    """The state of one request. Its methods read it and write to the span; none is called by the app.

    What has no default here is set by :class:`flexmw.tagging.asgi.TaggingApp`, or by
    :class:`flexmw.tagging.plain.PlainRequest` where that has observed the request before. Everything else has a default
    of the class, and is set once it is needed.

    :ivar is_complete: True once the last message of the response has come from the app.
    :ivar is_counted: True once ``flexmw.server.requests`` was counted.
    :ivar context: the OpenTelemetry context in which the request came in.
    :ivar enclosing: the exception that was being handled when the request came in. It is not the request's.
    :ivar fastapi: FastAPI's telemetry, as seen last.
    :ivar fastapi_outside: FastAPI's telemetry, if it was in the scope when the request came in.
    :ivar arrived: when the request came in, in monotonic seconds; ``None`` where no instrument inside opens a span.
    :ivar _map_exception: the function of an Envelope further out. It maps an exception to the error response that the
        Envelope will send.
    :ivar span: the span of the request, as far as it was found without a :class:`SpanWriter` or before the response.
    :ivar _spans: finds the span and keeps what is on it, once there is something to write.
    :ivar _exceptions: keeps the exceptions of the request.
    """

    settings: Settings
    instrument: AppInstrument
    context: Context
    exchange: Exchange
    scope: Scope
    server_receive: Receive
    server_send: Send
    enclosing: BaseException | None
    fastapi: Any
    fastapi_outside: Any = None
    span: Span | None

    status: int | None = None
    error_outcome: ErrorOutcome | None = None
    is_complete = is_counted = is_stream = is_disconnected = False
    arrived: float | None = None
    _checks: tuple[Mapping[str, Any], ...] = ()
    _exceptions: ExceptionRecorder | None = None
    _gen_ai: GenAi | None = None
    _held: HeldSpan | None = None
    _map_exception: Callable[[BaseException], ErrorMapping] | None = None
    _own_span: ServerSpan | None = None
    _spans: SpanWriter | None = None

    def begin(self, own_span: ServerSpan | None) -> None:
        """Note what few requests have.

        :param own_span: flexmw's own server span.
        """
        settings, exchange, is_http = self.settings, self.exchange, self.scope["type"] == "http"
        if self.span is not None:
            settings.otel.live = True
        if exchange.enveloped and is_http:
            # An Envelope further out sends the response to an exception of the app, but not to one of a websocket.
            self._map_exception = exchange.map_exception
        if own_span is not None:
            self._own_span = own_span
            self._spans = SpanWriter(settings, self.scope, self.context, own_span.span, is_own=True)
        if settings.gen_ai:
            self._gen_ai = GenAi.of_scope(self.scope)

    @property
    def spans(self) -> SpanWriter:
        """What writes to the span of the request. It is made when it is needed."""
        if self._spans is None:
            self._spans = SpanWriter(self.settings, self.scope, self.context, self.span)
        return self._spans

    @property
    def exceptions(self) -> ExceptionRecorder:
        """The recorder of the request's exception. It is made when it is needed: most requests have no exception."""
        if self._exceptions is None:
            self._exceptions = ExceptionRecorder(
                self.settings, self.scope, self.enclosing, self.fastapi_outside, self.fastapi
            )
        return self._exceptions

    def _start_failed(self, status: int) -> None:
        self._find_candidate(None)
        span = self._write_known()
        if span is None and self.arrived is not None and self._open_span_of_unreached():
            span = self.spans.span
        self._record_checks()
        if span is not None and not (self.is_disconnected and self.settings.on_disconnect == "unset"):
            set_error_status(span)
            if not is_server(span) or self._own_span is not None:
                self.spans.write(span, {"error.type": str(status)})

    def _open_span_of_unreached(self) -> bool:
        """Open the server span of a request that is answered before it reaches the app whose instrument opens one."""
        if self._own_span is not None or is_span_open(self.spans.entry) or not self.settings.otel.traces:
            return False
        if has_reached(self.instrument, self.scope, self.exchange.facts, self.error_outcome):
            return False
        self._own_span = ServerSpan(
            self.settings, self.scope, is_measured=self.instrument.measures, arrived=self.arrived
        )
        self.spans.use_own(self._own_span.span)
        self._write_known()
        return True

    def _record_checks(self) -> None:
        """Record the decisions of limiters. Where the app's span is opened further inward, they wait for it, because
        the exemplars of their durations name it."""
        checks, self._checks = self._checks, ()
        for details in checks:
            record_limit_check(self.settings, details, self.spans.span)

    def _hold_span(self) -> None:
        """Hold the span of an instrument inside of an Envelope that holds the head of a stream, or that of a websocket.
        Where the app fails, the instrument ends the span before the Envelope sends its error."""
        span = self.spans.target()
        if self.status is None and self._held is None and span is not None and span is not self.spans.entry:
            self._held = HeldSpan.of(span)

    def _disconnect(self) -> None:
        self.is_disconnected = True
        if self._held is not None:
            self._held.release()
        if self.settings.on_disconnect == "unset" and (span := self.spans.target()) is not None:
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
        mode = self.settings.on_disconnect
        is_raised = self._own_span is not None or self.exceptions.send_error is not None
        if mode == "error" or (mode == "host" and is_raised):
            set_error_status(span)
            self.spans.write(span, {"error.type": error_type(None, error) or DISCONNECTED})

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

    def _write_known(self) -> Span | None:
        return self.spans.write_known(self.exchange.facts, self.error_outcome, self.scope["headers"])

    def _follow_fastapi(self) -> None:
        """Keep FastAPI's telemetry while it is in the scope. Where FastAPI logs exceptions, that is all."""
        telemetry = self.scope[SCOPE_KEY]
        if telemetry is None:
            return
        if self._exceptions is not None or not has_logger(telemetry):
            self.exceptions.follow_fastapi(telemetry, self._on_fastapi_exception)
        self.fastapi = telemetry

    def _on_fastapi_exception(self, error: BaseException | None) -> None:
        """Take an exception that FastAPI has caught, unless a handler may still turn it into a response."""
        if self.status is not None or self.scope["type"] != "http":
            self.exceptions.fastapi_raised(error, self.spans.target(), self.status)

    def _find_candidate(self, error: BaseException | None) -> None:
        if SCOPE_KEY in self.scope:
            self._follow_fastapi()
        self.exceptions.find_candidate(error)
