"""One request as telemetry sees it: listened to, looked at while it is answered, told about when it is over.

The current span is looked up where the host's own is certain to be current: inside ``send``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.context import get_current
from opentelemetry.trace import Span

from flexmw.kit.asgi import Message, Receive, Scope, Send
from flexmw.kit.exchange import KEY, ErrorOutcome, Exchange
from flexmw.tagging.core import DISCONNECTED, INCOMPLETE, Attributes, Ending, ending, error_type, retry_count
from flexmw.tagging.exceptions import AsItHappens, before_last_body, record
from flexmw.tagging.host import MARK, Mark, handled
from flexmw.tagging.otel import current_span, fail, is_server
from flexmw.tagging.server_span import OwnSpan
from flexmw.tagging.settings import Settings

__all__ = ["Watch", "watched"]

_NONE: Final[Attributes] = {}
_BODIES: Final = frozenset({"http.response.body", "http.response.pathsend", "websocket.http.response.body"})


class Watch:
    """The state of one request. Nothing is built for a request that goes well that it does not need."""

    __slots__ = (
        "_context",
        "_counted",
        "_judge",
        "_receive",
        "_send",
        "_told",
        "_told_of",
        "_written",
        "answer",
        "candidate",
        "complete",
        "disconnected",
        "entry",
        "entry_mark",
        "exchange",
        "gone",
        "mark",
        "noted",
        "outer",
        "own",
        "scope",
        "settings",
        "span",
        "status",
        "streaming",
    )

    def __init__(self, settings: Settings, scope: Scope, receive: Receive, send: Send, own: OwnSpan | None) -> None:
        self.settings, self.scope, self.own = settings, scope, own
        self._receive, self._send = receive, send
        self.outer = sys.exception()
        self.exchange = exchange = Exchange.of(scope)
        exchange.subscribe(self.hear)
        # An Envelope further out answers an exception of the app; it does not treat one of a websocket as a response.
        self._judge = exchange.map_exception if exchange.enveloped and scope["type"] == "http" else None
        self._context = context = get_current()
        self.entry = entry = current_span(context) if own is None else own.span
        self.span: Span | None = None
        if entry.is_recording():
            self.span = entry
            settings.otel.live = True
        self.mark: Mark | None = None
        if MARK in scope and (telemetry := scope[MARK]) is not None:
            self.mark = Mark(telemetry)
        self.entry_mark = self.mark
        self._written = self._told = _NONE
        self._told_of: ErrorOutcome | None = None
        self.status: int | None = None
        self.answer: ErrorOutcome | None = None
        self.candidate: BaseException | None = None
        self.gone: OSError | None = None
        self.noted: BaseException | None = None
        self._counted = self.streaming = self.complete = self.disconnected = False

    async def receive(self) -> Message:
        """The app's ``receive``."""
        message = await self._receive()
        kind = message["type"]
        if (kind == "http.disconnect" or kind == "websocket.disconnect") and not self.complete:
            self._lost()
        return message

    async def send(self, message: Message) -> None:
        """The app's ``send``."""
        kind = message["type"]
        if kind == "http.response.start" or kind == "websocket.http.response.start":
            self._started(message["status"])
        elif kind in _BODIES:
            if not message.get("more_body", False):
                self._ends()
            elif not self.streaming:
                self._streams()
        elif kind == "websocket.accept" or kind == "websocket.close":
            if MARK in self.scope:
                self._marked()
            self._tag()
            self.complete = kind == "websocket.close"
        try:
            await self._send(message)
        except OSError as error:
            self.gone = error
            self._lost()
            raise

    def hear(self, event: str, details: Mapping[str, Any]) -> None:
        """Listen to the components further inward."""
        match event:
            case "flexmw.answer":
                self.answer = answer = details["answer"]
                if answer.status >= 500 or self.status is not None:
                    self._look(answer.exception)
                self._tag()
            case "flexmw.stream.began":
                self.streaming = True
                self._outcome("failed")
            case "flexmw.stream.ended":
                self._outcome("complete")
            case "flexmw.rate_limiting.decided":
                self.settings.checked(details)
            case "flexmw.rate_limiting.storage_failed" | "flexmw.idempotency.store_failed":
                self.settings.storage_failed(event, details, self.span)
            case _:  # an event of a plugin
                pass

    def _started(self, status: int) -> None:
        """The head is about to go out: the last moment at which every instrument's span is open."""
        self.status = status
        if status < 500:
            if MARK in self.scope:
                self._marked()
            if self.span is not None or get_current() is not self._context:
                self._tag()
            return
        self._look(None)
        span = self._tag()
        if span is not None:
            fail(span)
            if not is_server(span) or self.own is not None:
                self._write(span, {"error.type": str(status)})

    def _streams(self) -> None:
        self.streaming = True
        if self.span is not self.entry:
            # "failed" until shown otherwise: if it breaks, the host's span is closed before we are told.
            self._outcome("failed")

    def _ends(self) -> None:
        if self.streaming:
            self._outcome("failed" if self._broken() else "complete")
        self.complete = True
        if self.candidate is not None:
            before_last_body(self)

    def _lost(self) -> None:
        self.disconnected = True
        if self.streaming and not self.complete:
            self._outcome("client_disconnected")

    def _broken(self) -> bool:
        """The body was ended by an error event after the head had gone out."""
        answer = self.answer
        return answer is not None and answer.exception is not None and (self.status or 500) < 400

    def _outcome(self, value: Ending) -> None:
        span = self.target()
        if span is not None:
            self._write(span, {"flexmw.response.outcome": value})
            if value == "failed" and self._broken():
                fail(span)
                self._write(span, {"error.type": error_type(None, self.candidate) or INCOMPLETE})

    def _marked(self) -> None:
        """Note whether FastAPI watches; what it does not log, it shall tell while its span is open."""
        telemetry = self.scope[MARK]
        if telemetry is not None and (self.mark is None or not self.mark.of(telemetry)):
            self.mark = Mark(telemetry)
            self.mark.tell(AsItHappens(self))

    def _look(self, error: BaseException | None) -> None:
        """Note who else watches, and what this error answer is for."""
        if MARK in self.scope:
            self._marked()
        if self.mark is not None:
            self.mark.look()
        self.candidate = error or handled(self.outer) or self.candidate

    def target(self) -> Span | None:
        """The span to write on: the current one, unless an operation inside the host's span is current."""
        known, context = self.span, get_current()
        if context is not self._context and self.own is None:
            self._context, span = context, current_span(context)
            if span is not known and span.is_recording() and self._better(span, known):
                self.span, self._counted = span, False
                self._written = self._told = _NONE
                self._told_of = None
                self.settings.otel.live = True
                return span
            if known is None and not self.settings.placed and span.get_span_context().is_valid:
                self.settings.placed = True
        return known if known is not None and known.is_recording() else None

    @staticmethod
    def _better(span: Span, known: Span | None) -> bool:
        return known is None or not known.is_recording() or is_server(span) or not is_server(known)

    def _tag(self) -> Span | None:
        """Write what is known by now."""
        span = self.target()
        if span is not None:
            if not self._counted:
                self._counted = True
                self._count_of_sdk(span)
            if (self.answer is not None or self.exchange.facts) and self._news():
                facts, answer = self.exchange.facts, self.answer
                self._told, self._told_of = dict(facts), answer
                said = _NONE if answer is None else self.settings.facts_of(answer)
                self._write(span, {**facts, **said})
        return span

    def _news(self) -> bool:
        """Whether more is known than was written."""
        return self.answer is not self._told_of or self.exchange.facts != self._told

    def _count_of_sdk(self, span: Span) -> None:
        for name, value in self.scope["headers"]:
            if name == b"x-stainless-retry-count" and (count := retry_count(value.decode("latin-1"))) is not None:
                span.set_attribute("flexmw.request.retry_count", count)

    def _write(self, span: Span, attributes: Attributes) -> None:
        written = self._written
        if written:
            attributes = {name: value for name, value in attributes.items() if written.get(name) != value}
        if attributes:
            span.set_attributes(attributes)
            self._written = {**written, **attributes} if written else attributes

    def finish(self, error: BaseException | None) -> None:
        """The app is done with this request, one way or another."""
        complete = self.complete or (error is None and self.scope["type"] == "websocket")
        how: Ending = "complete" if complete else ending(error, complete=False, disconnected=self.disconnected)
        if self._judge is not None and self.answer is None and isinstance(error, Exception):
            self._answered_outside(error)
        known = self.answer is not None or bool(self.exchange.facts)
        if error is not None or not complete or (known and self._news()):
            self._close(error, how)
        if error is not None or self.candidate is not None or self.gone is not None:
            record(self, error, how)
        if known:
            self.settings.count_request(self)
        if self.span is None and not self.settings.placed:
            self.settings.doctor(self)
        if self.own is not None:
            kind = self._written.get("error.type")
            self.own.end(self.status, None if kind is None else str(kind))
        if self.mark is not None:
            self.mark.tell(None)
        self.exchange.unsubscribe(self.hear)

    def _answered_outside(self, error: Exception) -> None:
        """An Envelope around us will answer this, when the span of an instrument between us has closed."""
        if self._judge is not None:
            mapping = self._judge(error)
            self.answer = ErrorOutcome(mapping.status, mapping.error.type, mapping.error.code, mapping.source, error)

    def _close(self, error: BaseException | None, how: Ending) -> None:
        span = self._tag()
        if span is None or how == "complete":
            return
        if self.status is not None and self.scope["type"] != "websocket":
            self._write(span, {"flexmw.response.outcome": how})
        if how != "cancelled":
            fail(span)
            unknown = DISCONNECTED if self.disconnected else INCOMPLETE
            self._write(span, {"error.type": error_type(None, error or self.candidate) or unknown})


def watched(scope: Scope) -> bool:
    """Whether this request is told about already."""
    exchange: Exchange | None = scope.get(KEY)
    return exchange is not None and any(
        isinstance(getattr(each, "__self__", None), Watch) for each in exchange.observers
    )
