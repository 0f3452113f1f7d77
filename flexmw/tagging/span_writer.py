"""Span attributes of one request: on which span they are written, and each value once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span

from flexmw.contract.sdk import RETRY_COUNT
from flexmw.kit.asgi import Scope
from flexmw.kit.exchange import ErrorOutcome
from flexmw.tagging.core import Attributes, retry_count
from flexmw.tagging.instruments import contrib
from flexmw.tagging.instruments.current import SPAN_KEY, get_current
from flexmw.tagging.instruments.frames import server_span_around
from flexmw.tagging.settings import Settings
from flexmw.tagging.spans import is_server

__all__ = ["SpanWriter", "has_retry_count"]

_NONE: Final[Attributes] = {}


class SpanWriter:
    """Finds the span of a request and writes attributes to it.

    Attributes belong on the SERVER span. Where the app is instrumented outside of flexmw, the span is current when the
    request comes in. Where the instrument is inside, its span is current when the app calls ``send``. So the current
    span is looked up again at each call that writes, and what was written to another span before is written again.
    Where the current span is one of the app's own operations, the SERVER span around it is looked for. The current span
    is used if none is found.

    ===================  ============================================================================
    ``entry``            the span that was current when the request came in; it may not record
    ``span``             the span that attributes go to; ``None`` until one records
    ``context``          the OpenTelemetry context in which the current span was looked up last
    ``_is_own``          the span is flexmw's own server span: no other one is looked for
    ``_written``         all attributes on ``span``, by name
    ``_facts``           the facts that were written last
    ``_error_outcome``   the error outcome that was written last
    ``_has_retry_count`` whether the SDK's retry count was looked for since ``span`` was found
    ===================  ============================================================================
    """

    # Defaults of the class: what most requests neither set nor read costs them nothing.
    _written: Attributes = _NONE
    _facts: Mapping[str, Any] = _NONE
    _error_outcome: ErrorOutcome | None = None
    _has_retry_count = False

    def __init__(
        self, settings: Settings, scope: Scope, context: Context, span: Span | None, *, is_own: bool = False
    ) -> None:
        """
        :param context: the OpenTelemetry context in which the request came in.
        :param span: the span of the request that is known by now; ``None`` where none is.
        :param is_own: the span is flexmw's own server span.
        """
        self._settings, self._scope, self.context = settings, scope, context
        entry: Any = context.get(SPAN_KEY, INVALID_SPAN)
        self.entry: Span = entry
        self._is_own = is_own
        self.span: Span | None = None
        if span is not None and (not is_own or span.is_recording()):
            self.span = span
            settings.otel.live = True

    def target(self) -> Span | None:
        """The span to write on now: the current one, unless it belongs to an operation inside the server span."""
        known, context = self.span, get_current()
        if context is not self.context and not self._is_own:
            self.context = context
            current: Any = context.get(SPAN_KEY, INVALID_SPAN)
            span: Span = current
            if span is not known and span.is_recording():
                if known is None and not is_server(span):
                    span = self._server_span_around(span)
                if _is_better(span, known):
                    self._use(span)
                    return span
            diagnostics = self._settings.diagnostics
            if known is None and not diagnostics.span_check_done and span.get_span_context().is_valid:
                diagnostics.span_check_done = True
        return known if known is not None and known.is_recording() else None

    def use_own(self, span: Span) -> None:
        """Write to a server span that flexmw has opened, and to no other one."""
        self._is_own = True
        self._use(span)

    def _use(self, span: Span) -> None:
        if span is not self.span:
            self.span = span
            self._written = self._facts = _NONE
            self._error_outcome = None
            self._has_retry_count = False
            self._settings.otel.live = True

    def _server_span_around(self, operation: Span) -> Span:
        """The SERVER span around a span of the app's own; that span where none is found."""
        span = server_span_around(self._scope)
        if span is None and getattr(operation, "parent", None) is not None:
            self._settings.diagnostics.server_span_not_found(str(getattr(operation, "name", "")))
        return span or operation

    def has_news(self, facts: Mapping[str, Any], error_outcome: ErrorOutcome | None) -> bool:
        """Whether :meth:`write_known` would write something, or look for another span. Most requests have nothing."""
        return (
            get_current() is not self.context
            or error_outcome is not None
            or bool(facts)
            or (self.span is not None and has_retry_count(self._scope))
        )

    def write_known(
        self,
        facts: Mapping[str, Any],
        error_outcome: ErrorOutcome | None,
        headers: Iterable[tuple[bytes, bytes]],
    ) -> Span | None:
        """Write what is known about the request by now.

        :param facts: span attributes that the components left on the exchange.
        :param headers: the request headers.
        :returns: the span, ``None`` where none records.
        """
        span = self.target()
        if span is not None:
            if not self._has_retry_count:
                self._has_retry_count = True
                if has_retry_count(self._scope):
                    _write_sdk_retry_count(span, headers)
            if (error_outcome is not None or facts) and self.is_news(facts, error_outcome):
                self._facts, self._error_outcome = dict(facts), error_outcome
                error = _NONE if error_outcome is None else self._settings.attributes_of(error_outcome)
                self.write(span, {**facts, **error})
        return span

    def is_news(self, facts: Mapping[str, Any], error_outcome: ErrorOutcome | None) -> bool:
        """Whether facts and error outcome differ from those that were written last."""
        return error_outcome is not self._error_outcome or facts != self._facts

    def write(self, span: Span, attributes: Attributes) -> None:
        """Write the attributes that are not on the span yet. ``span`` is what :meth:`target` has returned."""
        written = self._written
        if written:
            attributes = {name: value for name, value in attributes.items() if written.get(name) != value}
        if attributes:
            span.set_attributes(attributes)
            self._written = {**written, **attributes} if written else attributes

    def write_now(self, attributes: Attributes) -> None:
        """Write attributes to the span that can be written to now, if there is one."""
        if attributes and (span := self.target()) is not None:
            self.write(span, attributes)

    @property
    def error_type(self) -> str | None:
        """The ``error.type`` that was written."""
        value = self._written.get("error.type")
        return None if value is None else str(value)


def has_retry_count(scope: Scope) -> bool:
    """Whether an SDK has sent the number of its retries, an attribute of the span."""
    for name, _ in scope["headers"]:  # noqa: SIM110 - any() costs each request a generator
        if name == RETRY_COUNT:
            return True
    return False


def _is_better(span: Span, known: Span | None) -> bool:
    """Whether attributes belong on ``span`` rather than on ``known``. Of two operations, the outer one is kept, unless
    the inner one is contrib's, which opens no SERVER span inside of another span."""
    if known is None or is_server(span):
        return True
    return not is_server(known) and (not known.is_recording() or contrib.ends_with_body(span))


def _write_sdk_retry_count(span: Span, headers: Iterable[tuple[bytes, bytes]]) -> None:
    for name, value in headers:
        if name == RETRY_COUNT and (count := retry_count(value.decode("latin-1"))) is not None:
            span.set_attribute("flexmw.request.retry_count", count)
