"""OpenTelemetry's current context, and the span in it, without the frames of the API: each request asks twice.

Checked with opentelemetry-api 1.45. Read is ``opentelemetry.context._RUNTIME_CONTEXT``, the implementation behind
``get_current()``, and its context variable ``_current_context``. When the API changes, or another implementation is
installed: the method of the implementation is called, or the public function.

>>> from opentelemetry import trace
>>> with trace.use_span(trace.INVALID_SPAN):
...     get_current()[SPAN_KEY] is trace.INVALID_SPAN
True
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

__all__ = ["CHECKED_WITH", "SPAN_KEY", "get_current"]

CHECKED_WITH: Final = {"opentelemetry-api": "1.45"}

_implementation: Final = getattr(context, "_RUNTIME_CONTEXT", None)
_variable: Final = getattr(_implementation, "_current_context", None)

get_current: Final[Callable[[], Context]] = (
    _variable.get
    if type(_implementation) is ContextVarsRuntimeContext and type(_variable) is ContextVar
    else getattr(_implementation, "get_current", context.get_current)
)
"""The current context. It must not be changed."""

SPAN_KEY: Final[str] = next(iter(trace.set_span_in_context(trace.INVALID_SPAN, Context())))
"""The key of a context under which its span is."""
