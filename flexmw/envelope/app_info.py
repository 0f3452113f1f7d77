"""App introspection: read the state of a framework's app without importing the framework."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from flexmw.kit.asgi import Receive, Scope, Send
from flexmw.kit.cors import CORS_CLASS, added_cors
from flexmw.kit.paths import wrapped_apps

__all__ = ["handles_crashes", "is_form", "standing_text", "through_cors"]


def handles_crashes(outer_app: Any, wrapped_app: Any) -> bool:
    """True if the framework's app *around* this middleware has a handler for crashes, which sends the response.

    :param outer_app: ``scope["app"]`` when the request came in; ``None`` for a middleware around the whole app.
    :param wrapped_app: the app inside this middleware. ``flexmw.install`` puts the middleware around all handlers of
        ``outer_app``, which is then one of the wrapped apps.
    """
    if outer_app is None or any(layer is outer_app for layer in wrapped_apps(wrapped_app)):
        return False
    handlers = getattr(outer_app, "exception_handlers", None)
    return isinstance(handlers, dict) and (500 in handlers or Exception in handlers)


def standing_text(status: int, wrapped_app: object) -> str | None:
    """Return the text that the framework writes for a status if the app gives none: the texts of werkzeug, which Quart
    uses, and the text of BlackSheep for a 404."""
    if status == 404 and any(type(layer).__module__.startswith("blacksheep.") for layer in wrapped_apps(wrapped_app)):
        return "Resource not found"
    exceptions: Any = sys.modules.get("werkzeug.exceptions")
    error = getattr(exceptions, "default_exceptions", {}).get(status)
    text = getattr(error, "description", None)
    return text if isinstance(text, str) else None


def is_form(scope: Scope) -> bool:
    """True if the body of a request is a form."""
    content_type = next((value for name, value in scope["headers"] if name == b"content-type"), b"").lower()
    return content_type.startswith((b"multipart/", b"application/x-www-form-urlencoded"))


def _is_inside_cors(outer_app: Any, wrapped_app: Any) -> bool:
    """Whether CORS middleware of the app is known to be around this middleware.

    The walk begins outside: a middleware that shows nothing of the app that it wraps ends it, and a response that goes
    through the CORS middleware twice does less harm than one that does not go through it at all.
    """
    for layer in wrapped_apps(getattr(outer_app, "middleware_stack", None)):
        if layer is wrapped_app:
            return False
        if type(layer).__name__ == CORS_CLASS:
            return True
    return False


async def through_cors(
    scope: Scope,
    headers: Iterable[tuple[bytes, bytes]],
    receive: Receive,
    send: Send,
    respond: Callable[[Send], Awaitable[None]],
    outer_app: Any,
    wrapped_app: Any,
) -> None:
    """Send a response through the CORS middleware of the wrapped app, if the app has one and a crash has bypassed it.

    Starlette responds to a crash outside all of the app's middleware, and without CORS headers a browser hides the
    error from its script. CORS middleware outside this one sees the response anyway.

    :param headers: the headers of the app's own response to the crash.
    :param respond: sends the response.
    :param outer_app: as in :func:`handles_crashes`.
    :param wrapped_app: as in :func:`handles_crashes`.
    """
    app: Any = scope.get("app")

    async def responder(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send)

    is_around = app is outer_app and _is_inside_cors(app, wrapped_app)
    has_headers = any(name.lower() == b"access-control-allow-origin" for name, _ in headers)
    cors = None if is_around or has_headers else added_cors(app, responder)
    await (responder if cors is None else cors)(scope, receive, send)
