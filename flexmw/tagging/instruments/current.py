"""OpenTelemetry's current context, and the span in it, without the frames of the API: each request asks twice.

Checked with opentelemetry-api 1.45. Read is ``opentelemetry.context._RUNTIME_CONTEXT``, the implementation behind
``get_current()``. When the API changes: the public function is called.

>>> from opentelemetry import trace
>>> with trace.use_span(trace.INVALID_SPAN):
...     get_current()[SPAN_KEY] is trace.INVALID_SPAN
True
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from opentelemetry import context, trace
from opentelemetry.context import Context

__all__ = ["CHECKED_WITH", "SPAN_KEY", "get_current"]

CHECKED_WITH: Final = {"opentelemetry-api": "1.45"}

get_current: Final[Callable[[], Context]] = getattr(
    getattr(context, "_RUNTIME_CONTEXT", None), "get_current", context.get_current
)
"""The current context. It must not be changed."""

SPAN_KEY: Final[str] = next(iter(trace.set_span_in_context(trace.INVALID_SPAN, Context())))
"""The key of a context under which its span is."""
