"""OpenTelemetry's instrumentors of httpx and httpx2: which of the two libraries has one at work.

Checked with opentelemetry-instrumentation-httpx 0.66. Read are the classes ``HTTPXClientInstrumentor`` and
``HTTPX2ClientInstrumentor`` of its module, if that is imported, and their ``is_instrumented_by_opentelemetry``. When
contrib changes: nothing warns of a client that the instrumentor of the other library leaves out.
"""

from __future__ import annotations

import sys
from typing import Any, Final

__all__ = ["CHECKED_WITH", "INSTRUMENTORS", "library_left_out"]

CHECKED_WITH: Final = {"opentelemetry-instrumentation-httpx": "0.66"}

INSTRUMENTORS: Final = {"httpx": "HTTPXClientInstrumentor", "httpx2": "HTTPX2ClientInstrumentor"}
"""A client library to the class that instruments it."""

_MODULE: Final = "opentelemetry.instrumentation.httpx"


def library_left_out(request: object) -> str | None:
    """The library of a request, if it is not instrumented and the other one is; else ``None``."""
    library = type(request).__module__.partition(".")[0]
    if library not in INSTRUMENTORS or _is_instrumented(library):
        return None
    return library if any(map(_is_instrumented, INSTRUMENTORS)) else None


def _is_instrumented(library: str) -> bool:
    instrumentor: Any = getattr(sys.modules.get(_MODULE), INSTRUMENTORS[library], None)
    return instrumentor is not None and bool(getattr(instrumentor(), "is_instrumented_by_opentelemetry", False))
