"""The client face: attempts on the spans of whatever instruments the transport, and one measure of the whole call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry.trace import Span

from flexmw.kit.effects import RESENDS, Flow, Follow, Request, Response, Send, head_leaves
from flexmw.kit.semconv import ATTRIBUTES, OTHER
from flexmw.tagging.call_span import CallSpan, Taster, readable
from flexmw.tagging.cardinality import some
from flexmw.tagging.core import Attributes, error_type, exception_attributes, resend_count, secrets_in
from flexmw.tagging.otel import current_span, is_http_client
from flexmw.tagging.settings import Settings

__all__ = ["tagged"]

_METHODS: Final = frozenset(ATTRIBUTES["http.request.method"].values)


def tagged(settings: Settings, request: Request) -> Flow:
    """Send once, listening."""
    otel = settings.otel
    if not (otel.live or otel.due()):
        plain: Response = yield Send(request)
        return plain
    call = CallTelemetry(settings, request)
    call.enter()
    try:
        response: Response = yield Send(request, call.hear)
    except BaseException as error:
        call.leave(error)
        call.finish(error)
        raise
    call.leave(None)
    call.status = response.status_code
    followed: Response = yield Follow(response, call.finish, call.tap(response))
    return followed


class CallTelemetry:
    """One logical call: all its attempts."""

    __slots__ = (
        "_last",
        "_parent",
        "_request",
        "_safety",
        "_scheduled",
        "_sent",
        "_settings",
        "_span",
        "_started",
        "_taster",
        "status",
    )

    def __init__(self, settings: Settings, request: Request) -> None:
        self._settings, self._request = settings, request
        self._started = settings.clock.monotonic()
        self._span = CallSpan(settings.otel) if settings.call_span and settings.otel.live else None
        self._parent = current_span()
        self._last: Span | None = None
        self._scheduled: int = request.extensions.get(RESENDS, 0)  # of a Retry further outward
        self._sent = 0
        self._safety: str | None = None
        self._taster: Taster | None = None
        self.status: int | None = None

    def enter(self) -> None:
        if self._span is not None:
            self._span.enter()
            self._parent = current_span()

    def leave(self, error: BaseException | None) -> None:
        if self._span is not None:
            self._span.leave(error)

    def tap(self, response: Response) -> Callable[[bytes], None] | None:
        """Read an error's body along with the caller, where there is a span of ours to put it on."""
        if self._span is None or response.status_code < 400 or not readable(response.headers):
            return None
        self._taster = Taster()
        return self._taster.taste

    def hear(self, event: str, details: Mapping[str, Any]) -> None:
        """The transport's trace events, and what a Retry further inward tells."""
        match event:
            case "flexmw.retry.scheduled":
                self._scheduled_retry(details)
            case "flexmw.retry.stopped":
                self._stopped(details)
            case _:
                self._attempt(event, details)

    def _attempt(self, event: str, details: Mapping[str, Any]) -> None:
        head = head_leaves(event, details)
        resend = resend_count(scheduled=self._scheduled, sent=self._sent)
        self._sent += head
        span = current_span()
        if span is self._last or not span.is_recording():
            return
        self._settings.otel.live = True
        if span is self._parent:
            if is_http_client(span):
                self._settings.warn(
                    "order",
                    "the client was instrumented after it was wrapped: one span covers all attempts of a call, and "
                    "retries are hidden. Call instrument_client(client) before flexmw.wrap_client(client)",
                )
            return
        if (resend and head) or self._scheduled:
            self._last = span
            span.set_attribute("http.request.resend_count", resend)
            if self._safety is not None:
                span.set_attribute("flexmw.retry.safety", self._safety)

    def _scheduled_retry(self, details: Mapping[str, Any]) -> None:
        otel, name = self._settings.otel, "flexmw.retry.scheduled"
        self._scheduled += 1
        safety = some(("flexmw.retry.safety", details.get("safety")))
        self._safety = str(safety["flexmw.retry.safety"]) if safety else None
        source, kind = details.get("delay_source"), details.get("error_type")
        otel.count("flexmw.client.retries", source, kind)
        if otel.logs(name):
            told = some(
                ("flexmw.retry.delay_source", source),
                ("error.type", kind),
                ("http.request.resend_count", self._scheduled),
                ("flexmw.retry.delay", details.get("delay")),
            )
            otel.emit(name, {**told, **safety})

    def _stopped(self, details: Mapping[str, Any]) -> None:
        otel, name = self._settings.otel, "flexmw.retry.stopped"
        why, safety = details.get("stop_reason"), details.get("safety")
        reason = some(("flexmw.retry.stop_reason", why), ("flexmw.retry.safety", safety))
        otel.count("flexmw.client.retry_stops", why, safety)
        if self._span is not None:
            self._span.write(reason)
        quiet = why == "unsafe_method"
        if otel.logs(name, quiet=quiet):
            otel.emit(name, {**reason, **some(("error.type", details.get("error_type")))}, quiet=quiet)

    def finish(self, error: BaseException | None) -> None:
        """The call is over: with an answer whose body was read or given up, or with an error in either phase."""
        settings = self._settings
        failure = error if isinstance(error, Exception) else None
        request, status = self._request, self.status
        kind = error_type(status or 200, failure, server=False)
        settings.otel.record(
            "flexmw.client.operation.duration",
            settings.clock.monotonic() - self._started,
            request.method,
            request.url.host if settings.server_address else None,
            status,
            kind,
        )
        if self._span is not None:
            told = {} if self._taster is None else self._taster.facts(settings.vocabulary)
            self._span.end(max(1, self._sent, self._scheduled + 1), kind, told)
        if failure is not None:
            self._record(failure)

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
            )

    def _attributes(self) -> Attributes:
        request = self._request
        attributes: Attributes = {"http.request.method": request.method if request.method in _METHODS else OTHER}
        if self._settings.server_address:
            attributes["server.address"] = request.url.host
        return attributes
