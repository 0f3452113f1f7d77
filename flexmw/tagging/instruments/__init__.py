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

from typing import Any, Final

from flexmw.contract.exception_slots import traceback_of
from flexmw.kit.asgi import ASGIApp
from flexmw.tagging.instruments import contrib, fastapi, starlette, suppression

__all__ = ["CHECKED_WITH", "opens_server_span", "spans_passed"]

CHECKED_WITH: Final = {
    **fastapi.CHECKED_WITH,
    **starlette.CHECKED_WITH,
    **contrib.CHECKED_WITH,
    **suppression.CHECKED_WITH,
}
"""Distribution name to the major and minor version that this package was checked with."""

_MODULES: Final = frozenset({fastapi.MODULE, starlette.MODULE, contrib.MODULE})
_MODULE_PREFIXES: Final = (contrib.MODULE_PREFIX, starlette.MODULE)
_OWN_SEND: Final = ("flexmw.tagging.request", "send")
_MAX_FRAMES: Final = 200
_MAX_WRAPPERS: Final = 50


def spans_passed(error: BaseException) -> dict[str, Any]:
    """The spans of the known instruments that an exception has passed through, outermost first.

    A span that was closed before a response was sent can be seen here only: it was never current while flexmw ran.

    :returns: the name of the instrument's module to the local variable ``span`` of its frame, ``None`` where the frame
        has no such variable.
    """
    spans: dict[str, Any] = {}
    traceback, frames_left = traceback_of(error), _MAX_FRAMES
    while traceback is not None and frames_left:
        frame = traceback.tb_frame
        module = frame.f_globals.get("__name__")
        if (module, frame.f_code.co_name) == _OWN_SEND:
            break  # the frames below are those of the server, which raised in our send
        if module in _MODULES and module not in spans:
            spans[module] = frame.f_locals.get("span")
        traceback, frames_left = traceback.tb_next, frames_left - 1
    return spans


def opens_server_span(app: ASGIApp) -> bool:
    """Whether ``app``, or an app that it wraps, opens a server span by itself."""
    wrapped: Any = app
    for _ in range(_MAX_WRAPPERS):
        if wrapped is None:
            return False
        modules = (type(wrapped).__module__, *starlette.middleware_modules(wrapped))
        if (
            fastapi.opens_server_span(wrapped)
            or contrib.is_instrumented(wrapped)
            or any(module.startswith(_MODULE_PREFIXES) for module in modules)
        ):
            return True
        wrapped = getattr(wrapped, "app", None)
    return False
