"""Warnings about instrumentation that hides errors, each logged once per component to the logger ``flexmw.tagging``.

A program may wrap a new client for each call, so all components of a process together log a warning a few times only.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

from opentelemetry.trace import Span

from flexmw.tagging.core import Mode
from flexmw.tagging.instruments.frames import has_instrument_frame
from flexmw.tagging.instruments.httpx import INSTRUMENTORS
from flexmw.tagging.otel import Otel
from flexmw.tagging.per_provider import PerProvider

__all__ = ["Diagnostics"]

_log: Final = logging.getLogger("flexmw.tagging")


MAX_WARNINGS: Final = 10
"""How often the components that trace to one provider log the same warning."""

_counts: Final[PerProvider[Counter[str]]] = PerProvider(Counter)
"""How often each warning was logged by the components that trace to one provider."""

REQUESTS_WITHOUT_HASH: Final = 100
"""Requests after which ``Tagging(key_hash=True)`` is reported as an option without effect."""


class Diagnostics:
    """The warnings of one component, and which of them were logged.

    :param server_span: the option ``Tagging(server_span=...)``.
    """

    __slots__ = ("_otel", "_requests_without_hash", "_server_span", "_warned", "library_check_done", "span_check_done")

    def __init__(self, otel: Otel, *, server_span: bool) -> None:
        self._otel, self._server_span = otel, server_span
        self._warned: set[str] = set()
        self._requests_without_hash = 0
        self.library_check_done = False
        """True once a client was looked at for :meth:`library_left_out`."""
        self.span_check_done = False
        """True once the warning "no span" was logged or ruled out; :meth:`check_for_span` is not called any more."""

    def check_for_span(self, entry_span: Span, status: int | None, *, is_instrumented: bool) -> None:
        """Warn if a tracer provider is set, but no span was open during a request that succeeded.

        An instrument may have excluded the request, such as a health check. Then nothing is wrong.

        :param entry_span: the span that was current when the request came in.
        :param status: the status of the response. An error is no proof: its span may have closed before the response.
        :param is_instrumented: whether an instrument inside of Tagging or FastAPI's telemetry handles the requests.
        """
        if entry_span.get_span_context().is_valid or self._server_span:
            self.span_check_done = True
        elif (status or 500) < 400 and self._otel.traces:
            self.span_check_done = True
            if is_instrumented or has_instrument_frame():
                return
            self._warn_once(
                "no span",
                "a tracer provider is set, but no server span is open while this app responds: its errors are "
                "not tagged. Instrument the app (FastAPI does by itself; else put OpenTelemetryMiddleware around "
                "the wrapped app), or use Tagging(server_span=True)",
            )

    def server_span_not_found(self, name: str) -> None:
        """Warn that attributes go to a span of the app's own, because the server span around it cannot be found."""
        self._warn_once(
            "server span not found",
            f"the server span around the span {name[:100]!r} cannot be found: the attributes of requests are on that "
            "span. Put the instrument around the wrapped app: "
            "app = OpenTelemetryMiddleware(flexmw.wrap_app(app))",
        )

    def span_closed_before_response(self) -> None:
        """Warn that Starlette's OpenTelemetryMiddleware, inside Tagging, closes its span before the error response."""
        self._warn_once(
            "span closed before response",
            "Starlette's OpenTelemetryMiddleware closes its span before the response to an unhandled exception: "
            "the response is counted, but its error is not on the span. Put it around: "
            "app = OpenTelemetryMiddleware(flexmw.wrap_app(app))",
        )

    def exception_not_recorded(self, mode: Mode) -> None:
        """Warn if exceptions are wanted as log events only and no logger provider is set."""
        if mode == "logs":
            self._warn_once(
                "exception not recorded",
                "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN=logs, but no logger provider is set: exceptions are not "
                "recorded. Set one, or unset the variable to have them on spans",
            )

    def check_key_hash(self, *, is_known: bool) -> None:
        """Warn that ``Tagging(key_hash=True)`` has no effect, because no limiter inside of Tagging knows the callers.

        :param is_known: whether a limiter has decided on a request. One such request ends the check.
        """
        if is_known:
            self._warned.add("key hash")
        self._requests_without_hash += 1
        if self._requests_without_hash == REQUESTS_WITHOUT_HASH:
            self._warn_once(
                "key hash",
                f"Tagging(key_hash=True) had no effect on the first {REQUESTS_WITHOUT_HASH} requests: no RateLimit "
                "inside of it has decided on one. Add a RateLimit, or leave the option out",
            )

    def route_failed(self) -> None:
        """Warn that the function of ``Tagging(route=...)`` raised."""
        self._warn_once("route", "Tagging(route=...) raised: requests are reported without http.route")

    def instrumented_after_wrapping(self) -> None:
        """Warn that a client's instrumentor is outside Tagging, where it opens one span for all attempts of a call."""
        self._warn_once(
            "instrumented after wrapping",
            "the client was instrumented after it was wrapped: one span covers all attempts of a call, and "
            "retries are hidden. Call instrument_client(client) before flexmw.wrap_client(client)",
        )

    def library_left_out(self, library: str) -> None:
        """Warn that the instrumentor of the other client library does not instrument this client."""
        self._warn_once(
            "library left out",
            f"this client is of {library}, and only the other library is instrumented: its attempts have no span. Use "
            f"{INSTRUMENTORS[library]} of opentelemetry-instrumentation-httpx as well",
        )

    def _warn_once(self, topic: str, text: str) -> None:
        if topic not in self._warned:
            self._warned.add(topic)
            counts: Counter[str] = _counts.of(self._otel.tracer_provider) if self._otel.traces else Counter()
            counts[topic] += 1
            if counts[topic] <= MAX_WARNINGS:
                _log.warning("%s", text)
