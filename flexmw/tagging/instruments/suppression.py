"""OpenTelemetry's ``suppress_instrumentation()``: whether telemetry is suppressed in the current context.

Exporters suppress telemetry around their own requests, so that telemetry does not make telemetry. No function of
``opentelemetry-api`` reads the keys of the context; ``is_http_instrumentation_enabled()`` of
``opentelemetry-instrumentation`` does, and that package is optional here.

Checked with opentelemetry-api 1.45. Read are the constants ``_SUPPRESS_INSTRUMENTATION_KEY`` and
``_SUPPRESS_HTTP_INSTRUMENTATION_KEY`` of ``opentelemetry.context``. When the API changes: without them, only the older
key ``suppress_instrumentation`` is found.
"""

from __future__ import annotations

from typing import Final

from opentelemetry import context

__all__ = ["CHECKED_WITH", "KEYS", "is_suppressed"]

CHECKED_WITH: Final = {"opentelemetry-api": "1.45"}

KEYS: Final = frozenset(
    {
        "suppress_instrumentation",
        getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation"),
        getattr(context, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY", "suppress_instrumentation"),
    }
)
"""The keys of a context in which telemetry may be suppressed."""


def is_suppressed(current: context.Context | None = None) -> bool:
    """Whether ``suppress_instrumentation()`` or ``suppress_http_instrumentation()`` is on in a context.

    :param current: the context; ``None`` for the current one.
    """
    current = context.get_current() if current is None else current
    return not KEYS.isdisjoint(current) and any(current.get(key) for key in KEYS)
