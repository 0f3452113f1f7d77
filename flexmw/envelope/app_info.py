"""What a host has put into the scope about itself, read without importing any host."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from flexmw.kit.asgi import Receive, Scope, Send

__all__ = ["answers_crashes_itself", "through_cors", "unrouted"]


def answers_crashes_itself(host: Any) -> bool:
    """Whether the host *around* this middleware has registered its own handler for crashes: it is not to be replaced.

    ``host`` is what the scope named when the request came in, so it is ``None`` for the outermost wrapper.
    """
    handlers = getattr(host, "exception_handlers", None)
    return isinstance(handlers, dict) and (500 in handlers or Exception in handlers)


def unrouted(scope: Scope) -> bool:
    """Whether Starlette or FastAPI has found no route: their routers put the endpoint into the scope."""
    return "router" in scope and scope.get("endpoint") is None


async def through_cors(
    scope: Scope,
    headers: Iterable[tuple[bytes, bytes]],
    receive: Receive,
    send: Send,
    answer: Callable[[Send], Awaitable[None]],
) -> None:
    """Answer a crash through the host's own CORS middleware, if it has one that the crash went past.

    Starlette answers crashes outside all of an app's middleware, so that a browser could not read the error.
    """
    cors = next(
        (each for each in getattr(scope.get("app"), "user_middleware", ()) if each.cls.__name__ == "CORSMiddleware"),
        None,
    )
    if cors is None or any(name.lower() == b"access-control-allow-origin" for name, _ in headers):
        await answer(send)
        return

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send)

    await cors.cls(app, *cors.args, **cors.kwargs)(scope, receive, send)
