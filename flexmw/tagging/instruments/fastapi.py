"""FastAPI's built-in telemetry (``fastapi.telemetry``): whether it logs exceptions, and which exceptions it has seen.

Checked with FastAPI 0.165. While FastAPI serves a request, ``scope["fastapi.telemetry"]`` holds a private object.
Read from it are :data:`LOGGER` (``None`` where FastAPI logs no exceptions), ``_exceptions`` (the exceptions that it has
seen), ``span`` and :data:`ROUTE`. ``logger`` is also set, see
:class:`ExceptionHook`. The object is also the variable ``request_telemetry`` of a frame; the variable does not exist
where telemetry is off or excludes the request. Read from an app are ``_native_telemetry.enabled()`` and
``_native_telemetry.config``.

When FastAPI changes: without the scope key, or with other attribute names, exceptions that FastAPI logs are recorded by
flexmw a second time. Where FastAPI calls another method than ``emit`` of its logger, an exception after the start of a
response is missing from FastAPI's span. Without ``_native_telemetry``, ``Tagging(server_span=True)`` opens a second
server span outside of FastAPI's.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any, Final

__all__ = [
    "CHECKED_WITH",
    "LOGGER",
    "MODULE",
    "NO_LOGGERS",
    "ROUTE",
    "SCOPE_KEY",
    "VARIABLE",
    "ExceptionHook",
    "FastAPITelemetry",
    "has_logger",
    "is_traced",
    "measures_requests",
    "opens_server_span",
]

CHECKED_WITH: Final = {"fastapi": "0.165"}

SCOPE_KEY: Final = "fastapi.telemetry"
"""The scope key of FastAPI's telemetry. FastAPI deletes it before its app returns or raises."""

MODULE: Final = "fastapi.telemetry._asgi"
"""The module whose frame an exception passes through."""

ROUTE: Final = "route"
"""The attribute of the telemetry with the template that FastAPI writes to its span as ``http.route``."""

LOGGER: Final = "logger"
"""The attribute of the telemetry with its logger."""

VARIABLE: Final = "request_telemetry"
"""The local variable of that frame that holds what the scope held under :data:`SCOPE_KEY`."""


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

    :ivar telemetry: the value of ``scope["fastapi.telemetry"]``.
    """

    __slots__ = ("_exceptions", "logs_exceptions", "telemetry")

    def __init__(self, telemetry: Any) -> None:
        self.telemetry = telemetry
        self._exceptions: tuple[BaseException, ...] = ()
        self.logs_exceptions = has_logger(telemetry)

    def wraps(self, telemetry: object) -> bool:
        """Whether this object was made for ``telemetry``. A mounted FastAPI app has a telemetry object of its own."""
        return self.telemetry is telemetry

    def refresh(self) -> None:
        """Copy the exceptions that FastAPI has seen so far."""
        self._exceptions = tuple(getattr(self.telemetry, "_exceptions", ()))

    def logged(self, error: BaseException) -> bool:
        """Whether FastAPI had logged ``error`` when :meth:`refresh` was last called."""
        return self.logs_exceptions and any(seen is error for seen in self._exceptions)

    def set_hook(self, hook: ExceptionHook | None) -> None:
        """Install ``hook`` where FastAPI logs no exceptions; ``None`` removes it."""
        if not self.logs_exceptions and hasattr(self.telemetry, "logger"):
            self.telemetry.logger = hook


NO_LOGGERS: Final = (type(None), ExceptionHook)
"""The classes of :data:`LOGGER` where FastAPI logs no exceptions."""


def has_logger(telemetry: object) -> bool:
    """Whether FastAPI logs the exceptions of the request that this telemetry object belongs to."""
    return type(getattr(telemetry, LOGGER, None)) not in NO_LOGGERS


def is_traced(scope: MutableMapping[str, Any]) -> bool:
    """Whether a FastAPI app further outward has a span of this request, or excludes the request from its telemetry."""
    if SCOPE_KEY not in scope:
        return False
    telemetry = scope[SCOPE_KEY]
    return telemetry is None or getattr(telemetry, "span", None) is not None


def opens_server_span(app: object) -> bool:
    """Whether ``app`` is a FastAPI app whose built-in tracing is on."""
    return _has_signal(app, "tracing")


def measures_requests(app: object) -> bool:
    """Whether ``app`` is a FastAPI app that records ``http.server.request.duration``."""
    return _has_signal(app, "metrics")


def _has_signal(app: object, signal: str) -> bool:
    telemetry: Any = getattr(app, "_native_telemetry", None)
    return telemetry is not None and bool(telemetry.config.get(signal, True)) and bool(telemetry.enabled())
