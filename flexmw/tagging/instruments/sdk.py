"""OpenTelemetry's SDK: keep an error that an instrument is going to report off its span.

An instrument sets the status of its span when the client has disconnected, just before it ends the span, and no code
runs between the two. The API has one way to forbid that, the status OK, which semantic conventions reserve for the
operator. ``Tagging(on_disconnect="unset")`` asks for UNSET, so the methods of the one span are replaced.

Checked with opentelemetry-sdk 1.45, whose spans have a ``__dict__``. When the SDK changes: the status becomes OK
instead of UNSET.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.trace import Span, Status, StatusCode

__all__ = ["CHECKED_WITH", "ignore_errors"]

CHECKED_WITH: Final = {"opentelemetry-sdk": "1.45"}

_ERROR_TYPE: Final = "error.type"


def ignore_errors(span: Span) -> None:
    """From now on, let the span take neither the status ERROR nor the attribute ``error.type``."""
    methods: Any = span
    set_status, set_attribute, set_attributes = methods.set_status, methods.set_attribute, methods.set_attributes

    def set_status_unless_error(status: Status | StatusCode, description: str | None = None) -> None:
        if getattr(status, "status_code", status) is not StatusCode.ERROR:
            set_status(status, description)

    def set_attribute_unless_error(key: str, value: Any) -> None:
        if key != _ERROR_TYPE:
            set_attribute(key, value)

    def set_attributes_unless_error(attributes: Mapping[str, Any]) -> None:
        set_attributes({key: value for key, value in attributes.items() if key != _ERROR_TYPE})

    try:
        methods.set_status = set_status_unless_error
        methods.set_attribute = set_attribute_unless_error
        methods.set_attributes = set_attributes_unless_error
    except AttributeError:  # a span of another SDK, with slots
        span.set_status(StatusCode.OK)
