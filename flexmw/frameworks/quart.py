"""Quart: components around ``app.asgi_app``, the method that Quart documents for middleware."""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp

from flexmw.errors import APIError, raised
from flexmw.frameworks.interior import Interior

__all__ = ["put"]


def put(app: Any, interior: Interior, layers: ASGIApp) -> None:
    """Put the components around everything in a Quart app.

    Quart logs what no error handler has handled. An ``APIError`` is a response, so ``app.log_exception``, the hook that
    Quart documents, leaves it out where an Envelope sends it. A handler for it was tried instead: it took precedence
    over the app's own handler for ``Exception``.
    """
    interior.app, app.asgi_app = app.asgi_app, layers
    log_exception = app.log_exception

    def log_crash(exception_info: Any) -> None:
        if raised.get() is None or not isinstance(exception_info[1], APIError):
            log_exception(exception_info)

    app.log_exception = log_crash
