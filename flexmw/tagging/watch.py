"""One request as telemetry sees it: listened to, looked at while it is answered, told about when it is over.

The current span is looked up where the host's own is certain to be current: inside ``send``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.trace import Span

from flexmw.kit.asgi import Message, Receive, Scope, Send
from flexmw.kit.exchange import KEY, Answer, Exchange
from flexmw.tagging.core import DISCONNECTED, INCOMPLETE, Attributes, Ending, ending, error_type, retry_count
from flexmw.tagging.host import Mark, handled, mark_of
from flexmw.tagging.otel import current_span, fail, is_server
from flexmw.tagging.own import OwnSpan
from flexmw.tagging.record import before_last_body, record
from flexmw.tagging.settings import Settings

__all__ = ["Watch", "watched"]

_NONE: Final[Attributes] = {}


class Watch:
    """The state of one request. Nothing is built for a request that goes well that it does not need."""

    __slots__ = (
        "_receive",
        "_send",
        "_tagged",
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
        "websocket",
    )

    def __init__(self, settings: Settings, scope: Scope, receive: Receive, send: Send, own: OwnSpan | None) -> None:
        self.settings, self.scope, self.own = settings, scope, own
        self._receive, self._send = receive, send
        self.websocket = scope["type"] == "websocket"
        self.exchange = Exchange.of(scope)
        self.exchange.listen(self.hear)
        self.outer = sys.exception()
        self.entry = current_span()
        self.mark: Mark = mark_of(scope)
        self.entry_mark = self.mark
        self.span: Span | None = None
        if self.entry.is_recording():
            self.span = self.entry
            settings.otel.live = True
        self._written = self._told = _NONE
        self._told_of: Answer | None = None
        self._tagged = False
        self.status: int | None = None
        self.answer: Answer | None = None
        self.candidate: BaseException | None = None
        self.gone: OSError | None = None
        self.noted: BaseException | None = None
        self.streaming = self.complete = self.disconnected = False

    async def receive(self) -> Message:
        """The app's ``receive``."""
        message = await self._receive()
        if not self.complete and message["type"] in ("http.disconnect", "websocket.disconnect"):
            self._lost()
        return message

    async def send(self, message: Message) -> None:
        """The app's ``send``."""
        kind = message["type"]
        if kind == "http.response.body" or kind == "http.response.pathsend" or kind == "websocket.http.response.body":
            self._body(more=message.get("more_body", False))
        elif kind == "http.response.start" or kind == "websocket.http.response.start":
            self._started(message["status"])
        elif kind == "websocket.accept" or kind == "websocket.close":
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
        if "fastapi.telemetry" in self.scope:
            self.mark = mark_of(self.scope)
        if status >= 500:
            self._look(None)
        span = self._tag()
        if span is not None and status >= 500:
            fail(span)
            if not is_server(span) or self.own is not None:
                self._write(span, {"error.type": str(status)})

    def _body(self, *, more: bool) -> None:
        if more:
            if not self.streaming:
                self.streaming = True
                if self.span is not self.entry:
                    # "failed" until shown otherwise: if it breaks, the host's span is closed before we are told.
                    self._outcome("failed")
            return
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

    def _look(self, error: BaseException | None) -> None:
        """Note who else watches, and what this error answer is for."""
        if "fastapi.telemetry" in self.scope:
            self.mark = mark_of(self.scope)
        self.candidate = error or handled(self.outer) or self.candidate

    def target(self) -> Span | None:
        """The span to write on: the current one, unless an operation inside the host's span is current."""
        span, known = current_span(), self.span
        if span is not known and span.is_recording() and self._better(span, known):
            self.span, self._written = span, _NONE
            self._told, self._told_of, self._tagged = _NONE, None, False
            self.settings.otel.live = True
            return span
        return known if known is not None and known.is_recording() else None

    @staticmethod
    def _better(span: Span, known: Span | None) -> bool:
        return known is None or not known.is_recording() or is_server(span) or not is_server(known)

    def _tag(self) -> Span | None:
        """Write what is known by now."""
        span = self.target()
        if span is not None:
            if not self._tagged:
                self._tagged = True
                self._count_of_sdk(span)
            if self._news():
                self._told, self._told_of = dict(self.exchange.facts), self.answer
                self._write(span, {**self.exchange.facts, **self.facts()})
        return span

    def _news(self) -> bool:
        """Whether more is known than was written."""
        return self.answer is not self._told_of or self.exchange.facts != self._told

    def _count_of_sdk(self, span: Span) -> None:
        for name, value in self.scope["headers"]:
            if name == b"x-stainless-retry-count" and (count := retry_count(value.decode("latin-1"))) is not None:
                span.set_attribute("flexmw.request.retry_count", count)

    def facts(self) -> Attributes:
        """What the answer says of its error."""
        answer = self.answer
        return {} if answer is None else self.settings.vocabulary.facts(answer.type, answer.code, answer.source)

    def _write(self, span: Span, attributes: Attributes) -> None:
        fresh = {name: value for name, value in attributes.items() if self._written.get(name) != value}
        if fresh:
            span.set_attributes(fresh)
            self._written = {**self._written, **fresh}

    def finish(self, error: BaseException | None) -> None:
        """The app is done with this request, one way or another."""
        how: Ending = "complete" if self.complete or (self.websocket and error is None) else self._how(error)
        if error is not None or how != "complete" or self._news():
            self._close(error, how)
        if error is not None or self.candidate is not None or self.gone is not None:
            record(self, error, how)
        self.settings.count_request(self)
        if self.span is None:
            self.settings.doctor(self)
        if self.own is not None:
            kind = self._written.get("error.type")
            self.own.end(self.status, None if kind is None else str(kind))

    def _close(self, error: BaseException | None, how: Ending) -> None:
        span = self._tag()
        if span is None or how == "complete":
            return
        if self.status is not None and not self.websocket:
            self._write(span, {"flexmw.response.outcome": how})
        if how != "cancelled":
            fail(span)
            unknown = DISCONNECTED if self.disconnected else INCOMPLETE
            self._write(span, {"error.type": error_type(None, error or self.candidate) or unknown})

    def _how(self, error: BaseException | None) -> Ending:
        return ending(error, complete=self.complete, disconnected=self.disconnected)


def watched(scope: Scope) -> bool:
    """Whether this request is told about already."""
    exchange: Exchange | None = scope.get(KEY)
    return exchange is not None and any(
        isinstance(getattr(each, "__self__", None), Watch) for each in exchange.heard_by
    )
