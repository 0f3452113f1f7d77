"""App introspection: what a framework has put into the scope about itself, read without importing any framework."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from flexmw.kit.asgi import Receive, Scope, Send
from flexmw.kit.paths import wrapped_apps

__all__ = ["handles_crashes", "through_cors", "unrouted"]


def handles_crashes(outer_app: Any, wrapped_app: Any) -> bool:
    """True if the framework app *around* this middleware has a handler for crashes, which is to send the response.

    :param outer_app: ``scope["app"]`` when the request came in; ``None`` for a middleware around the whole app.
    :param wrapped_app: the app inside this middleware. ``flexmw.install`` puts the middleware around all handlers of
        ``outer_app``, which is then one of the wrapped apps.
    """
    if outer_app is None or any(layer is outer_app for layer in wrapped_apps(wrapped_app)):
        return False
    handlers = getattr(outer_app, "exception_handlers", None)
    return isinstance(handlers, dict) and (500 in handlers or Exception in handlers)


def unrouted(scope: Scope) -> bool:
    """True if Starlette or FastAPI has found no route: their routers put the endpoint into the scope."""
    return "router" in scope and scope.get("endpoint") is None


async def through_cors(
    scope: Scope,
    headers: Iterable[tuple[bytes, bytes]],
    receive: Receive,
    send: Send,
    respond: Callable[[Send], Awaitable[None]],
) -> None:
    """Send a response through the CORS middleware of the wrapped app, if the app has one that a crash has bypassed.

    Starlette responds to a crash outside all of the app's middleware, and without CORS headers a browser hides the
    error from its script.

    :param headers: the headers of the app's own response to the crash.
    :param respond: sends the response.
    """
    cors = next(
        (
            entry
            for entry in getattr(scope.get("app"), "user_middleware", ())
            if getattr(entry.cls, "__name__", None) == "CORSMiddleware"  # a factory may be any callable
        ),
        None,
    )
    if cors is None or any(name.lower() == b"access-control-allow-origin" for name, _ in headers):
        await respond(send)
        return

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send)

    await cors.cls(app, *cors.args, **cors.kwargs)(scope, receive, send)
