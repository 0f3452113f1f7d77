"""FastAPI's built-in telemetry (``fastapi.telemetry``): whether it logs exceptions, and which ones it has seen.

Checked with FastAPI 0.165. While FastAPI serves a request, ``scope["fastapi.telemetry"]`` holds a private object.
Read from it are ``logger`` (``None`` where FastAPI logs no exceptions) and ``_exceptions`` (the exceptions that it has
seen). ``logger`` is also set, see :class:`ExceptionHook`. Read from an app is ``_native_telemetry.enabled()``.

When FastAPI changes: without the scope key, or with other attribute names, exceptions that FastAPI logs are recorded by
flexmw a second time. Where FastAPI calls another method than ``emit`` of its logger, an exception after the start of a
response is missing from FastAPI's span. Without ``_native_telemetry``, ``Tagging(server_span=True)`` opens a second
server span outside of FastAPI's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

__all__ = ["CHECKED_WITH", "MODULE", "SCOPE_KEY", "ExceptionHook", "FastAPITelemetry", "opens_server_span"]

CHECKED_WITH: Final = {"fastapi": "0.165"}

SCOPE_KEY: Final = "fastapi.telemetry"
"""The scope key of FastAPI's telemetry. FastAPI deletes it before its app returns or raises."""

MODULE: Final = "fastapi.telemetry._asgi"
"""The module whose frame an exception passes through."""


class ExceptionHook:
    """Stands in for FastAPI's logger where FastAPI logs no exceptions.

    FastAPI calls the logger while its span is still open. After the start of a response, this is the only moment at
    which an exception can still be written to that span.

    :param callback: is called with each exception.
    """

    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[[BaseException | None], None]) -> None:
        self._callback = callback

    def emit(self, *, exception: BaseException | None = None, **_: Any) -> None:
        """The only method of a logger that FastAPI calls."""
        self._callback(exception)


class FastAPITelemetry:
    """FastAPI's telemetry of one request. It is kept because FastAPI deletes it from the scope and empties it.

    :param telemetry: the value of ``scope["fastapi.telemetry"]``.
    """

    __slots__ = ("_exceptions", "_telemetry", "logs_exceptions")

    def __init__(self, telemetry: Any) -> None:
        self._telemetry = telemetry
        self._exceptions: tuple[BaseException, ...] = ()
        self.logs_exceptions = getattr(telemetry, "logger", None) is not None

    def wraps(self, telemetry: object) -> bool:
        """Whether this object was made for ``telemetry``. A mounted FastAPI app has a telemetry object of its own."""
        return self._telemetry is telemetry

    def refresh(self) -> None:
        """Copy the exceptions that FastAPI has seen so far."""
        self._exceptions = tuple(getattr(self._telemetry, "_exceptions", ()))

    def logged(self, error: BaseException) -> bool:
        """Whether FastAPI had logged ``error`` when :meth:`refresh` was last called."""
        return self.logs_exceptions and any(seen is error for seen in self._exceptions)

    def set_hook(self, hook: ExceptionHook | None) -> None:
        """Install ``hook`` where FastAPI logs no exceptions; ``None`` removes it."""
        if not self.logs_exceptions and hasattr(self._telemetry, "logger"):
            self._telemetry.logger = hook


def opens_server_span(app: object) -> bool:
    """Whether ``app`` is a FastAPI app whose built-in telemetry is on."""
    telemetry: Any = getattr(app, "_native_telemetry", None)
    return telemetry is not None and bool(telemetry.enabled())
