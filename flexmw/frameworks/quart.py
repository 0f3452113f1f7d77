"""Quart: components around ``app.asgi_app``, the method that Quart documents for middleware."""

from __future__ import annotations

from json import JSONDecodeError
from typing import Any, Final

from starlette.types import ASGIApp

from flexmw.errors import APIError, raised
from flexmw.frameworks.interior import Interior

__all__ = ["BROKEN_JSON", "put"]

BROKEN_JSON: Final = "Failed to decode JSON"
"""The text of a 400 for a body that is not JSON: the beginning of what Quart says in its debug mode."""


def put(app: Any, interior: Interior, layers: ASGIApp) -> None:
    """Put the components around everything in a Quart app.

    Quart logs what no error handler has handled. An ``APIError`` is a response, so ``app.log_exception``, the hook that
    Quart documents, leaves it out where an Envelope sends it. A handler for it was tried instead: it took precedence
    over the app's own handler for ``Exception``.

    Quart's 400 for a body that is not JSON does not say so. Where an Envelope sends it, and the app has no handler for
    it, it does.

    Quart 0.23 gives both methods the context of the request before their argument. What comes before it is passed on.
    """
    interior.app, app.asgi_app = app.asgi_app, layers
    log_exception = app.log_exception

    def log_crash(*arguments: Any) -> None:
        if raised.get() is None or not isinstance(arguments[-1][1], APIError):
            log_exception(*arguments)

    app.log_exception = log_crash
    handle_http_exception = app.handle_http_exception

    async def handle_named(*arguments: Any) -> Any:
        response, error = await handle_http_exception(*arguments), arguments[-1]
        # Quart returns the error itself where no handler of the app has taken it.
        if response is error and raised.get() is not None and _is_about_json(error):
            return app.response_class(BROKEN_JSON, 400, mimetype="text/plain")
        return response

    app.handle_http_exception = handle_named


def _is_about_json(error: Any) -> bool:
    """Whether an error is Quart's own 400 for a body that is not JSON."""
    from werkzeug.exceptions import BadRequest

    description: str = error.description or ""
    is_own = description == BadRequest.description or description.startswith(BROKEN_JSON)
    return type(error) is BadRequest and is_own and isinstance(error.__context__, JSONDecodeError)
