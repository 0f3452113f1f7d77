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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flexmw.kit.asgi import ASGIApp, Scope
from flexmw.kit.exchange import ErrorOutcome
from flexmw.tagging.instruments import contrib, fastapi, starlette, suppression

__all__ = ["CHECKED_WITH", "AppInstrument", "has_reached", "instrument_of"]

CHECKED_WITH: Final = {
    **fastapi.CHECKED_WITH,
    **starlette.CHECKED_WITH,
    **contrib.CHECKED_WITH,
    **suppression.CHECKED_WITH,
}
"""Distribution name to the major and minor version that this package was checked with."""

_MAX_WRAPPERS: Final = 50


@dataclass(frozen=True, slots=True)
class AppInstrument:
    """What the telemetry of the wrapped app does for each request.

    :ivar opens_span: an instrument opens a server span.
    :ivar measures: FastAPI or contrib records ``http.server.request.duration``.
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
        by_contrib = contrib.is_instrumented(wrapped) or any(
            module.startswith(contrib.MODULE_PREFIX) for module in modules
        )
        by_starlette = any(module.startswith(starlette.MODULE) for module in modules)
        opens_span = opens_span or by_contrib or by_starlette or fastapi.opens_server_span(wrapped)
        measures = measures or (by_contrib and contrib.is_stable()) or fastapi.measures_requests(wrapped)
        sets_app = sets_app or starlette.is_app(wrapped)
        wrapped = getattr(wrapped, "app", None)
    return AppInstrument(opens_span, measures, sets_app)


def has_reached(
    instrument: AppInstrument, scope: Scope, facts: Mapping[str, Any], error_outcome: ErrorOutcome | None
) -> bool:
    """Whether a request has reached the instrumented app. If no span is open then, the instrument has excluded it.

    :param facts: what the components around the app have left on the exchange.
    """
    if instrument.sets_app:
        return "app" in scope
    is_refused = error_outcome is not None and error_outcome.source in ("rate_limiting", "idempotency")
    return not (is_refused or facts.get("flexmw.idempotency.result") == "replayed")
