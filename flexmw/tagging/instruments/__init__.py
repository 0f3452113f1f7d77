"""Access to private state of FastAPI, Starlette and OpenTelemetry, to record each exception exactly once.

No public API says whether one of these libraries records the exception of a request, or on which span; none says
whether telemetry is suppressed. The modules of
this package read it from the ASGI scope, from the frames of a traceback and from attributes of the app; nothing outside
this package reads such state. There is one module per library. Each module names in ``CHECKED_WITH`` the versions it
was checked with, and says in its docstring what stops working when the library changes. Private state that is missing
is never an error: flexmw then behaves as if the library did not instrument the request.

Private: nothing in this package is for use outside flexmw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from flexmw.kit.asgi import ASGIApp
from flexmw.tagging.instruments import contrib, fastapi, starlette, suppression

__all__ = ["CHECKED_WITH", "AppInstrument", "instrument_of"]

CHECKED_WITH: Final = {
    **fastapi.CHECKED_WITH,
    **starlette.CHECKED_WITH,
    **contrib.CHECKED_WITH,
    **suppression.CHECKED_WITH,
}
"""Distribution name to the major and minor version that this package was checked with."""

_MODULE_PREFIXES: Final = (contrib.MODULE_PREFIX, starlette.MODULE)
_MAX_WRAPPERS: Final = 50


@dataclass(frozen=True, slots=True)
class AppInstrument:
    """What the telemetry of the wrapped app does for each request.

    :ivar opens_span: an instrument opens a server span.
    :ivar measures: FastAPI records ``http.server.request.duration``.
    :ivar sets_app: the app is Starlette's or FastAPI's: it sets ``scope["app"]`` when a request reaches it.
    """

    opens_span: bool = False
    measures: bool = False
    sets_app: bool = False


def instrument_of(app: ASGIApp) -> AppInstrument:
    """The instruments of ``app`` and of the apps that it wraps."""
    opens_span = measures = sets_app = False
    wrapped: Any = app
    for _ in range(_MAX_WRAPPERS):
        if wrapped is None:
            break
        modules = (type(wrapped).__module__, *starlette.middleware_modules(wrapped))
        opens_span = (
            opens_span
            or fastapi.opens_server_span(wrapped)
            or contrib.is_instrumented(wrapped)
            or any(module.startswith(_MODULE_PREFIXES) for module in modules)
        )
        measures = measures or fastapi.measures_requests(wrapped)
        sets_app = sets_app or starlette.is_app(wrapped)
        wrapped = getattr(wrapped, "app", None)
    return AppInstrument(opens_span, measures, sets_app)
