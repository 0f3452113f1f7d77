"""One span around a logical call of a client, where it is asked for: INTERNAL and without ``http.*``, because the spans
of its attempts are the HTTP spans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry import context, trace
from opentelemetry.trace import SpanKind

from flexmw.contract import ErrorBody
from flexmw.tagging.core import Attributes, Vocabulary
from flexmw.tagging.otel import Otel, fail

__all__ = ["CallSpan", "Taster", "readable"]

NAME: Final = "flexmw.call"
MOST: Final = 64 * 1024
"""Bytes of an error's body that are kept to find its code in; the body of a longer one is let go."""


class CallSpan:
    """The span; it lives until the body ends, and is current only while attempts are made."""

    __slots__ = ("_span", "_token")

    def __init__(self, otel: Otel) -> None:
        self._span = otel.tracer.start_span(NAME, kind=SpanKind.INTERNAL)
        self._token: Any = None

    def enter(self) -> None:
        self._token = context.attach(trace.set_span_in_context(self._span))

    def leave(self, error: BaseException | None) -> None:
        # A flow that is thrown away is closed wherever the collector runs: that context never was ours to restore.
        if not isinstance(error, GeneratorExit):
            context.detach(self._token)

    def write(self, attributes: Attributes) -> None:
        if self._span.is_recording():
            self._span.set_attributes(attributes)

    def end(self, attempts: int, error_type: str | None, told: Attributes) -> None:
        self.write({"flexmw.retry.attempts": attempts, **told})
        if error_type is not None:
            self.write({"error.type": error_type})
            fail(self._span)
        self._span.end()


def readable(headers: Mapping[str, str]) -> bool:
    """Whether a body is worth keeping: JSON as it stands, no stream."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    plain = headers.get("content-encoding", "identity") in ("", "identity")
    return plain and (kind == "application/json" or kind.endswith("+json"))


class Taster:
    """Keeps the beginning of an error's body while the caller reads it."""

    __slots__ = ("_kept", "_size")

    def __init__(self) -> None:
        self._kept: list[bytes] = []
        self._size = 0

    def taste(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size <= MOST:
            self._kept.append(chunk)
        else:
            self._kept.clear()

    def facts(self, vocabulary: Vocabulary) -> Attributes:
        """The envelope's type and code, if this was one."""
        error = ErrorBody.decode(b"".join(self._kept)) if self._kept and self._size <= MOST else None
        return {} if error is None else vocabulary.facts(error.type, error.code, None)
