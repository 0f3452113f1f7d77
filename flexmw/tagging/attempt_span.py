"""The span of one attempt, which the instrumentor of the client library opens: ``http.request.resend_count``.

flexmw opens no span for an attempt. It finds the instrumentor's span as the current one while the transport sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.trace import Span, SpanKind

__all__ = ["is_http_client", "write_resend_count"]


def write_resend_count(span: Span, resend_count: int, safety: str | None) -> None:
    """Write ``http.request.resend_count`` and ``flexmw.retry.safety`` to the span of an attempt after the first.

    :param resend_count: 1 for the first resend.
    :param safety: why the attempt could be made without doing the work twice; ``None`` where no Retry has said.
    """
    span.set_attribute("http.request.resend_count", resend_count)
    if safety is not None:
        span.set_attribute("flexmw.retry.safety", safety)


def is_http_client(span: Span) -> bool:
    """Whether this is an instrumentor's span of an HTTP call: of kind CLIENT and with an HTTP method. The second name
    is that of the old semantic conventions."""
    attributes: Mapping[str, Any] = getattr(span, "attributes", None) or {}
    return getattr(span, "kind", None) is SpanKind.CLIENT and not attributes.keys().isdisjoint(
        ("http.request.method", "http.method")
    )
