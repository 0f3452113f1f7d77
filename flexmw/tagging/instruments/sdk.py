"""Methods of a span of OpenTelemetry's SDK, replaced for one span: what an instrument reports is kept off it, or held.

An instrument sets the status of its span when the client has disconnected, just before it ends the span, and no code
runs between the two. The API has one way to forbid that, the status OK, which semantic conventions reserve for the
operator. ``Tagging(on_disconnect="unset")`` asks for UNSET: :func:`ignore_errors`.

An instrument inside of an Envelope sees the head of an event stream, and then an exception that ends its span. The
Envelope has held the head and sends another response. :class:`HeldSpan` waits for that response.

Checked with opentelemetry-sdk 1.45, whose spans have a ``__dict__``. When the SDK changes: the status of a disconnect
becomes OK instead of UNSET, and the span of a stream that fails before its first event says what the app has begun.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, Self

from opentelemetry.trace import Span, Status, StatusCode

__all__ = ["CHECKED_WITH", "HeldSpan", "ignore_errors"]

CHECKED_WITH: Final = {"opentelemetry-sdk": "1.45"}

_ERROR_TYPE: Final = "error.type"
_STATUS_CODE: Final = "http.response.status_code"
_STATUS_CODE_ENDING: Final = "status_code"
"""How the name ends in the stable conventions, and in the old ones that contrib writes by default."""

_HELD: Final = ("set_status", "set_attribute", "set_attributes", "record_exception")


class HeldSpan:
    """A span whose status, attributes, exceptions and end are held back until the response is known.

    :param span: a span that an instrument inside of flexmw has opened.
    """

    __slots__ = ("_calls", "_is_ended", "_is_held", "_span")

    def __init__(self, span: Span) -> None:
        self._span: Any = span
        self._calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self._is_held, self._is_ended = True, False
        for name in _HELD:
            setattr(span, name, partial(self._hold, name))
        setattr(span, "end", self._hold_end)  # noqa: B010 - to a type checker, `end` is a method

    @classmethod
    def of(cls, span: Span) -> Self | None:
        """The held span; ``None`` for a span of another SDK, with slots."""
        try:
            return cls(span)
        except AttributeError:
            return None

    def _hold(self, name: str, *args: Any, **options: Any) -> None:
        self._calls.append((name, args, options))

    def _hold_end(self, end_time: int | None = None) -> None:
        self._is_ended = True

    def release(self, status: int | None = None, *, keep_open: bool = False) -> None:
        """Write what was held. The end is held on, if a status is given, until :meth:`finish` is called.

        :param keep_open: hold the end on in any case.
        :param status: the status of the error response that was sent instead of the one that the instrument has seen.
            Then the instrument's status and exception are dropped, and below 500 its ``error.type`` as well.
        """
        if not self._is_held:
            return
        self._is_held = False
        span, calls, self._calls = self._span, self._calls, []
        for name in _HELD:
            delattr(span, name)
        if status is None:
            for name, args, options in calls:
                getattr(span, name)(*args, **options)
            if not keep_open:
                self.finish()
            return
        attributes: dict[str, Any] = {}
        for name, args, options in calls:
            if name == "set_attribute":
                attributes |= _attribute(*args, **options)
            elif name == "set_attributes":
                attributes |= _attributes(*args, **options)
        known: Mapping[str, Any] = {**(getattr(span, "attributes", None) or {}), **attributes}
        names = [name for name in known if name.endswith(_STATUS_CODE_ENDING)] or [_STATUS_CODE]
        attributes |= dict.fromkeys(names, status)
        if status < 500:
            attributes.pop(_ERROR_TYPE, None)
        else:
            attributes.setdefault(_ERROR_TYPE, str(status))
        span.set_attributes(attributes)

    def finish(self) -> None:
        """Let the span end; it ends now if the instrument has ended it."""
        self.release()
        if "end" in vars(self._span):
            del self._span.end
            if self._is_ended:
                self._span.end()


def _attribute(key: str, value: Any) -> dict[str, Any]:
    return {key: value}


def _attributes(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    return attributes


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
