"""Functions on a span: set its ERROR status, and read what the SDK's spans offer beyond the API.

The OpenTelemetry API can only write to a span. The SDK's spans can also be read (``ReadableSpan``: kind and events).
The functions that read use ``getattr`` and have a result for spans that cannot be read.
"""

from __future__ import annotations

from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from flexmw.tagging.core import type_name

__all__ = ["current_span", "has_exception", "is_server", "is_span_open", "records_exception", "set_error_status"]

_SERVER: Final = SpanKind.SERVER  # before Python 3.12 a member looked up on its class costs three times as much
_ERROR: Final = Status(StatusCode.ERROR)
_NO_ATTRIBUTES: Final[dict[str, Any]] = {}

current_span: Final = trace.get_current_span


def set_error_status(span: Span) -> None:
    """Set the status ERROR without a description: a description would repeat the status code or leak a message."""
    span.set_status(_ERROR)


def is_span_open(entry: Span) -> bool:
    """Whether a span of this process is open around a request, sampled or not.

    :param entry: the span that was current when the request came in.
    """
    contexts = entry.get_span_context(), current_span().get_span_context()
    return any(context.is_valid and not context.is_remote for context in contexts)


def is_server(span: Span) -> bool:
    """Whether the kind of the span is SERVER."""
    # The SDK keeps the kind in a field behind a property, which takes three times as long to read.
    return getattr(span, "_kind", None) is _SERVER or getattr(span, "kind", None) is _SERVER


def has_exception(span: Span | None) -> bool:
    """Whether any exception event is on the span."""
    return any(getattr(event, "name", "") == "exception" for event in getattr(span, "events", None) or ())


def records_exception(span: Any, error: BaseException) -> bool:
    """Whether an exception event of the class of ``error`` is on the span."""
    events: Any = getattr(span, "events", None) or ()
    types: list[Any] = [
        (event.attributes or _NO_ATTRIBUTES).get("exception.type") for event in events if event.name == "exception"
    ]
    return type_name(error) in types
