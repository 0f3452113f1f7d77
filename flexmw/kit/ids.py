"""Request ids: the caller's own if it is safe to log, else the trace id, else a random one.

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

_SAFE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:=+/@~-]{0,127}")


def request_id(inbound: str | None) -> str:
    """The id of a request.

    :param inbound: the value of the request's ``x-request-id``. It is used if it has 1 to 128 letters, digits and
        ``._:=+/@~-`` and begins with a letter or digit. Otherwise the result is the current trace id, and without a
        current span 32 random hexadecimal digits.
    """
    if inbound and _SAFE.fullmatch(inbound):
        return inbound
    return trace_id() or secrets.token_hex(16)


def trace_id() -> str | None:
    """The current span's trace id as 32 hexadecimal digits (W3C Trace Context); ``None`` without a current span."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None
