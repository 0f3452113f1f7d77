"""The span of a client call, around all its attempts: opened with ``Tagging(call_span=True)`` only.

The span is of kind INTERNAL and has no attributes ``http.*``: the spans of the attempts are the HTTP spans.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry import context, trace
from opentelemetry.trace import SpanKind

from flexmw.contract import ErrorBody
from flexmw.tagging.core import Attributes
from flexmw.tagging.otel import Otel
from flexmw.tagging.spans import set_error_status

__all__ = ["BodyPrefix", "CallSpan", "has_readable_body"]

NAME: Final = "flexmw.call"
MAX_BODY_BYTES: Final = 64 * 1024
"""Error bodies up to this length are searched for an error object; longer ones are dropped."""


class CallSpan:
    """The span of one call. It lasts until the body has ended, and is the current span only while attempts are made."""

    __slots__ = ("_span", "_token")

    def __init__(self, otel: Otel) -> None:
        self._span = otel.tracer.start_span(NAME, kind=SpanKind.INTERNAL)
        self._token: Any = None

    def enter(self) -> None:
        """Make this the current span."""
        self._token = context.attach(trace.set_span_in_context(self._span))

    def leave(self, error: BaseException | None) -> None:
        """Make the previous span current again.

        :param error: what ended the attempts. ``GeneratorExit`` means that nobody finished the flow: the garbage
            collector closes it in another thread or task, where the token is not valid.
        """
        if not isinstance(error, GeneratorExit):
            context.detach(self._token)

    def write(self, attributes: Attributes) -> None:
        """Write attributes while the span records."""
        if self._span.is_recording():
            self._span.set_attributes(attributes)

    def end(self, attempts: int, error_type: str | None, error_attributes: Attributes) -> None:
        """End the span.

        :param attempts: how often the call was sent.
        :param error_type: ``error.type`` of a call that failed, else ``None``.
        :param error_attributes: those of an error object in the response.
        """
        self.write({"flexmw.retry.attempts": attempts, **error_attributes})
        if error_type is not None:
            self.write({"error.type": error_type})
            set_error_status(self._span)
        self._span.end()


def has_readable_body(headers: Mapping[str, str]) -> bool:
    """Whether the body is JSON without a content encoding."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    is_plain = headers.get("content-encoding", "identity") in ("", "identity")
    return is_plain and (media_type == "application/json" or media_type.endswith("+json"))


class BodyPrefix:
    """Copies an error body while the caller reads it, up to :data:`MAX_BODY_BYTES`."""

    __slots__ = ("_chunks", "_size_bytes")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size_bytes = 0

    def add(self, chunk: bytes) -> None:
        """Take the next chunk of the body."""
        self._size_bytes += len(chunk)
        if self._size_bytes <= MAX_BODY_BYTES:
            self._chunks.append(chunk)
        else:
            self._chunks.clear()

    def error(self) -> ErrorBody | None:
        """The error object in the body, if there is one."""
        return ErrorBody.decode(b"".join(self._chunks)) if self._chunks else None
