"""The span of a client call, around all its attempts: opened with ``Tagging(call_span=True)`` only.

The span is of kind INTERNAL and has no attributes ``http.*``: the spans of the attempts are the HTTP spans.
"""

from __future__ import annotations

from typing import Any, Final

from opentelemetry import context, trace
from opentelemetry.trace import SpanKind

from flexmw.tagging.core import Attributes
from flexmw.tagging.otel import Otel
from flexmw.tagging.spans import set_error_status

__all__ = ["CallSpan"]

NAME: Final = "flexmw.call"


class CallSpan:
    """The span of one call. It lasts until the body has ended, and is the current span only while attempts are made."""

    __slots__ = ("_token", "span")

    def __init__(self, otel: Otel) -> None:
        self.span = otel.tracer.start_span(NAME, kind=SpanKind.INTERNAL)
        self._token: Any = None

    def enter(self) -> None:
        """Make this the current span."""
        self._token = context.attach(trace.set_span_in_context(self.span))

    def leave(self, error: BaseException | None) -> None:
        """Make the previous span current again.

        :param error: what ended the attempts. ``GeneratorExit`` means that nobody finished the flow: the garbage
            collector closes it in another thread or task, where the token is not valid.
        """
        if not issubclass(type(error), GeneratorExit):
            context.detach(self._token)

    def write(self, attributes: Attributes) -> None:
        """Write attributes while the span records."""
        if self.span.is_recording():
            self.span.set_attributes(attributes)

    def end(self, attempts: int, error_type: str | None, error_attributes: Attributes) -> None:
        """End the span.

        :param attempts: how often the call was sent.
        :param error_type: ``error.type`` of a call that failed, else ``None``.
        :param error_attributes: those of an error object in the response.
        """
        self.write({"flexmw.retry.attempts": attempts, **error_attributes})
        if error_type is not None:
            self.write({"error.type": error_type})
            set_error_status(self.span)
        self.span.end()
