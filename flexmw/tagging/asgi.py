"""The server face: what is known about a request goes on the span of whatever instruments the host, while it is open.

No span is opened here. The current span is looked up where the host's own is certain to be current: inside ``send``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from opentelemetry.trace import Span

from flexmw.kit.asgi import ASGIApp, Message, Receive, Scope, Send
from flexmw.kit.exchange import Answer, Exchange
from flexmw.tagging.core import DISCONNECTED, INCOMPLETE, Attributes, Ending, ending, error_type, retry_count
from flexmw.tagging.host import Mark, handled, mark_of
from flexmw.tagging.otel import current_span, fail, is_server
from flexmw.tagging.own import OwnSpan, instrumented
from flexmw.tagging.record import Recording
from flexmw.tagging.settings import Settings

__all__ = ["Tagged"]


class Tagged:
    """An ASGI app whose requests are told about."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        otel = self._settings.otel
        if not (otel.live or otel.due()) or scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        own = self._open(scope)
        watch = Watch(self._settings, scope, receive, send, own)
        try:
            await self.app(scope, watch.receive, watch.send)
        except BaseException as error:
            watch.finish(error)
            raise
        else:
            watch.finish(None)
        finally:
            if own is not None:
                own.leave()

    def _open(self, scope: Scope) -> OwnSpan | None:
        """A server span where one is wanted and nothing else makes one."""
        if not self._settings.server_span or scope["type"] != "http" or current_span().is_recording():
            return None
        return None if mark_of(scope).fastapi or instrumented(self.app) else OwnSpan(self._settings, scope)


class Watch:
    """One request, as telemetry sees it."""

    __slots__ = (
        "_receive",
        "_send",
        "answer",
        "candidate",
        "complete",
        "disconnected",
        "entry",
        "entry_mark",
        "exchange",
        "gone",
        "held_back",
        "mark",
        "outer",
        "own",
        "recording",
        "scope",
        "settings",
        "span",
        "status",
        "streaming",
        "websocket",
        "written",
    )

    def __init__(
        self, settings: Settings, scope: Scope, receive: Receive, send: Send, own: OwnSpan | None = None
    ) -> None:
        self.own = own
        self.settings, self.scope = settings, scope
        self._receive, self._send = receive, send
        self.websocket = scope["type"] == "websocket"
        self.exchange = Exchange.of(scope)
        self.exchange.listen(self.hear)
        self.outer = sys.exception()
        self.entry = current_span()
        self.entry_mark = mark_of(scope)
        self.mark: Mark = self.entry_mark
        self.span: Span | None = self.entry if self.entry.is_recording() else None
        self.written: Attributes = {}
        self.status: int | None = None
        self.answer: Answer | None = None
        self.candidate: BaseException | None = None
        self.gone: OSError | None = None
        self.streaming = self.complete = self.disconnected = self.held_back = False
        self.recording = Recording(self)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] in ("http.disconnect", "websocket.disconnect") and not self.complete:
            self.lost()
        return message

    async def send(self, message: Message) -> None:
        match message["type"]:
            case "http.response.start" | "websocket.http.response.start":
                self.held_back = _is_event_stream(message)
                self.started(message["status"])
            case "http.response.body" | "http.response.pathsend" | "websocket.http.response.body":
                self.body(more=message.get("more_body", False))
            case "websocket.accept":
                self.tag()
            case "websocket.close":
                self.tag()
                self.complete = True
        try:
            await self._send(message)
        except OSError as error:
            self.gone = error
            self.lost()
            raise

    def hear(self, event: str, details: Mapping[str, Any]) -> None:
        """Listen to the components further inward."""
        match event:
            case "flexmw.answer":
                self.answer = answer = details["answer"]
                self.look(answer.status, answer.exception)
                self.tag()
            case "flexmw.stream.began":
                self.streaming = True
                self.outcome("failed")
            case "flexmw.stream.ended":
                self.outcome("complete")
            case "flexmw.rate_limiting.decided":
                self.settings.checked(details)
            case "flexmw.rate_limiting.storage_failed" | "flexmw.idempotency.store_failed":
                self.settings.storage_failed(event, details, self.span)

    def started(self, status: int) -> None:
        """The head is about to go out: the last moment at which every instrument's span is open."""
        self.status = status
        self.look(status, None)
        span = self.tag()
        if span is not None and status >= 500:
            fail(span)
            if not is_server(span) or self.own is not None:
                self.write(span, {"error.type": str(status)})

    def body(self, *, more: bool) -> None:
        if more:
            if not self.streaming:
                self.streaming = True
                if self.span is not self.entry and not self.held_back:
                    # "failed" until shown otherwise: if it breaks, the host's span is closed before we are told.
                    self.outcome("failed")
            return
        if self.streaming:
            self.outcome("failed" if self.broken else "complete")
        self.complete = True
        self.recording.before_last_body()

    def lost(self) -> None:
        self.disconnected = True
        if self.streaming and not self.complete:
            self.outcome("client_disconnected")

    @property
    def broken(self) -> bool:
        """The body was ended by an error event after the head had gone out."""
        answer = self.answer
        return answer is not None and answer.exception is not None and (self.status or 500) < 400

    def outcome(self, value: Ending) -> None:
        span = self.target()
        if span is not None:
            self.write(span, {"flexmw.response.outcome": value})
            if value == "failed" and self.broken:
                fail(span)
                self.write(span, {"error.type": error_type(None, self.candidate) or INCOMPLETE})

    def look(self, status: int, error: BaseException | None) -> None:
        """Note who else watches, and what this error answer is for."""
        mark = mark_of(self.scope)
        self.mark = mark if mark.fastapi else self.mark
        if status >= 500 or self.status is not None:
            self.candidate = error or handled(self.outer) or self.candidate

    def target(self) -> Span | None:
        """The span to write on: the current one, unless an operation inside the host's span is current."""
        span, known = current_span(), self.span
        if span is not known and span.is_recording() and self.better(span, known):
            self.span, self.written = span, {}
            self.settings.otel.live = True
            return span
        return known if known is not None and known.is_recording() else None

    @staticmethod
    def better(span: Span, known: Span | None) -> bool:
        return known is None or not known.is_recording() or is_server(span) or not is_server(known)

    def tag(self) -> Span | None:
        """Write what is known by now."""
        span = self.target()
        if span is not None:
            attributes = {**self.exchange.facts, **self.facts()}
            if (count := self.retries()) is not None:
                attributes["flexmw.request.retry_count"] = count
            self.write(span, attributes)
        return span

    def facts(self) -> Attributes:
        answer = self.answer
        return {} if answer is None else self.settings.vocabulary.facts(answer.type, answer.code, answer.source)

    def write(self, span: Span, attributes: Attributes) -> None:
        fresh = {name: value for name, value in attributes.items() if self.written.get(name) != value}
        if fresh:
            span.set_attributes(fresh)
            self.written.update(fresh)

    def retries(self) -> int | None:
        for name, value in self.scope["headers"]:
            if name == b"x-stainless-retry-count":
                return retry_count(value.decode("latin-1"))
        return None

    def finish(self, error: BaseException | None) -> None:
        """The app is done with this request, one way or another."""
        how: Ending = "complete" if self.websocket and error is None else self.how(error)
        span = self.tag()
        if span is not None and how != "complete":
            if self.status is not None and not self.websocket:
                self.write(span, {"flexmw.response.outcome": how})
            if how != "cancelled":
                fail(span)
                unknown = DISCONNECTED if self.disconnected else INCOMPLETE
                self.write(span, {"error.type": error_type(None, error or self.candidate) or unknown})
        self.recording.finish(error, how)
        self.settings.count_request(self)
        self.settings.doctor(self)
        if self.own is not None:
            kind = self.written.get("error.type")
            self.own.end(self.status, None if kind is None else str(kind))

    def how(self, error: BaseException | None) -> Ending:
        return ending(error, complete=self.complete, disconnected=self.disconnected)


def _is_event_stream(message: Message) -> bool:
    """An Envelope further inward holds the end of such a body until the app returns: the host's span ends before."""
    kinds = (value for name, value in message.get("headers", ()) if name.lower() == b"content-type")
    return any(b"event-stream" in value or b"ndjson" in value or b"jsonl" in value for value in kinds)
