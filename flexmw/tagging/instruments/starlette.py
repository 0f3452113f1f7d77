"""Starlette's error handling, routes and its experimental ``OpenTelemetryMiddleware``.

Checked with Starlette 1.10. Read are: the module names of frames in a traceback (``ServerErrorMiddleware`` raises an
exception again after it has responded), ``app.user_middleware``, and ``scope["route"].path_format``.

When Starlette changes: with other module names, an exception on the span of ``OpenTelemetryMiddleware`` is recorded by
flexmw a second time. Without ``path_format``, ``http.route`` is missing from metrics and log events unless
``Tagging(route=...)`` is set.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any, Final

from flexmw.contract.exception_slots import traceback_of

__all__ = ["CHECKED_WITH", "MODULE", "is_raised_again", "middleware_modules", "route_of"]

CHECKED_WITH: Final = {"starlette": "1.10"}

MODULE: Final = "starlette.middleware.opentelemetry"
"""The module of ``OpenTelemetryMiddleware``. An exception that has passed its frame is on its span."""

_RAISE_AGAIN: Final = ("starlette.middleware.errors", "flexmw.")
"""Modules that send an error response for an exception and then raise it again: Starlette's, and flexmw's Envelope."""


def is_raised_again(error: BaseException) -> bool:
    """Whether the code that handles ``error`` now will raise it again after the response."""
    traceback = traceback_of(error)
    return traceback is not None and str(traceback.tb_frame.f_globals.get("__name__")).startswith(_RAISE_AGAIN)


def middleware_modules(app: object) -> Iterator[str]:
    """Yield the module of each middleware that was added to a Starlette app. Other apps yield nothing."""
    return (middleware.cls.__module__ for middleware in getattr(app, "user_middleware", ()))


def route_of(scope: MutableMapping[str, Any]) -> str | None:
    """The template of the matched route, such as ``/users/{id}``; ``None`` before routing and for other routers."""
    path_format = getattr(scope.get("route"), "path_format", None)
    return scope.get("root_path", "").rstrip("/") + path_format if isinstance(path_format, str) else None
