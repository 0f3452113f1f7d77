"""OpenTelemetry's contrib instrumentations: which apps they instrument, and when their server spans end.

Checked with opentelemetry-instrumentation-asgi and -fastapi 0.66. Read are: the module name of the ASGI middleware in a
traceback and in ``type(app)``, the flag ``_is_instrumented_by_opentelemetry`` of an app, and the name of the
instrumentation scope of a span.

When contrib changes: with other names, ``Tagging(server_span=True)`` opens a second server span, and the exception
event of a request is missing from a contrib span that ends with the last body message.
"""

from __future__ import annotations

import os
from typing import Final

from opentelemetry.trace import Span

__all__ = ["CHECKED_WITH", "MODULE", "MODULE_PREFIX", "ends_with_body", "is_instrumented", "is_stable"]

CHECKED_WITH: Final = {"opentelemetry-instrumentation-asgi": "0.66", "opentelemetry-instrumentation-fastapi": "0.66"}

MODULE_PREFIX: Final = "opentelemetry.instrumentation."

MODULE: Final = "opentelemetry.instrumentation.asgi"
"""The module of contrib's ``OpenTelemetryMiddleware``."""


def is_instrumented(app: object) -> bool:
    """Whether an instrumentor has patched ``app``."""
    return bool(getattr(app, "_is_instrumented_by_opentelemetry", False))


def is_stable() -> bool:
    """Whether contrib records the metrics of the stable conventions, instead of or besides the old ones."""
    return not {"http", "http/dup"}.isdisjoint(os.environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", "").split(","))


def ends_with_body(span: Span) -> bool:
    """Whether the span ends with the last body message, and so before an exception that is raised again reaches it."""
    instrumentation_scope = getattr(span, "instrumentation_scope", None)
    return str(getattr(instrumentation_scope, "name", "")).startswith(MODULE_PREFIX)
