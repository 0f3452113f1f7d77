"""The identity of a request: the caller's own when it is fit to be written into logs, else the trace's, else a new one.

>>> request_id("req_42")
'req_42'
>>> len(request_id("two words"))
32
"""

from __future__ import annotations

import re
import secrets
from typing import Final

from opentelemetry import trace

__all__ = ["request_id", "trace_id"]

_FIT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:=+/@~-]{0,127}")


def request_id(inbound: str | None) -> str:
    """``inbound`` if it is 1 to 128 letters, digits and ``._:=+/@~-``; the trace id; or 32 random hex digits."""
    if inbound and _FIT.fullmatch(inbound):
        return inbound
    return trace_id() or secrets.token_hex(16)


def trace_id() -> str | None:
    """The current span's trace id as 32 hex digits (W3C Trace Context); ``None`` where no span is current."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None
