"""CORS of refusals: a component that refuses a request sends the response through the CORS middleware of the app.

The app does not run, so its CORS middleware does not see the response, and without CORS headers a browser hides the
status and the error from its script (Fetch standard, CORS protocol). The middleware is looked for inside the wrapped
app: CORS middleware of Starlette and FastAPI (``add_middleware``), CORS middleware that wraps an app, and the CORS
settings of Litestar, BlackSheep and Falcon. CORS middleware outside the component sees the refusal anyway.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from copy import copy
from typing import Any, Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flexmw.kit.paths import wrapped_apps

__all__ = ["CORS_CLASS", "added_cors", "is_preflight", "send_through_cors", "stream_through_cors"]

_Header = tuple[bytes, bytes]

_ORIGIN: Final = b"origin"
_ALLOWED_ORIGIN: Final = b"access-control-allow-origin"
_CORS: Final = b"access-control-"
CORS_CLASS: Final = "CORSMiddleware"
"""The name of the class of CORS middleware in Starlette, FastAPI, Lilya and Falcon."""


def is_preflight(scope: Scope) -> bool:
    """Whether a request is a CORS preflight. A browser sends it without credentials, before the request itself."""
    if scope.get("method") != "OPTIONS":
        return False
    names = {name for name, _ in scope.get("headers") or ()}
    return _ORIGIN in names and b"access-control-request-method" in names


def _allows_origin_of(scope: Scope, headers: Iterable[_Header]) -> bool:
    """Whether a response without CORS headers, or with CORS headers for the origin of the request."""
    origin = _origin(scope)
    return all(value in (b"*", origin) for name, value in headers if name.lower() == _ALLOWED_ORIGIN)


async def send_through_cors(scope: Scope, send: Send, app: ASGIApp | None, messages: Iterable[Message]) -> None:
    """Send a whole response as the wrapped app would: with the headers of its CORS middleware.

    CORS headers of another origin are removed from the response. Without CORS middleware, and for a request without
    an origin, the other headers stay as they are.

    :param app: the wrapped app, which does not run.
    :param messages: the messages of the response.
    """
    start, *body = messages

    async def send_body(send: Send) -> None:
        for message in body:
            await send(message)

    await stream_through_cors(scope, send, app, start, send_body)


async def stream_through_cors(
    scope: Scope, send: Send, app: ASGIApp | None, start: Message, send_body: Callable[[Send], Awaitable[None]]
) -> None:
    """The same for a response whose body is not known yet.

    :param app: the wrapped app, which does not run.
    :param start: the first message of the response.
    :param send_body: sends the other messages.
    """
    if scope["type"] == "http" and _origin(scope) is not None:
        if not _allows_origin_of(scope, start["headers"]):
            kept = [pair for pair in start["headers"] if not pair[0].lower().startswith(_CORS)]
            start = {**start, "headers": kept}
        if not any(name.lower() == _ALLOWED_ORIGIN for name, _ in start["headers"]):
            responder = _responder(start, send_body)
            cors = next((found for layer in wrapped_apps(app) if (found := _cors_of(layer, scope, responder))), None)
            if cors is not None:
                await cors(scope, _no_body, send)
                return
    await send(start)
    await send_body(send)


def added_cors(app: Any, responder: ASGIApp) -> ASGIApp | None:
    """The CORS middleware that was added to an app by ``add_middleware``, around another app; ``None`` without one."""
    for entry in getattr(app, "user_middleware", None) or ():  # `None` on Flama
        # A factory may be any callable, and Lilya's entries have no `cls`.
        if getattr(getattr(entry, "cls", None), "__name__", "") == CORS_CLASS:
            return entry.cls(responder, *entry.args, **entry.kwargs)  # type: ignore[no-any-return]
    return None


def _origin(scope: Scope) -> bytes | None:
    return next((value for name, value in scope.get("headers") or () if name == _ORIGIN), None)


def _responder(start: Message, send_body: Callable[[Send], Awaitable[None]]) -> ASGIApp:
    """An app that sends this response."""

    async def responder(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start)
        await send_body(send)

    return responder


async def _no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def _cors_of(layer: Any, scope: Scope, responder: ASGIApp) -> ASGIApp | None:
    """The CORS middleware of one layer of an app, around another app; ``None`` if the layer has none."""
    if type(layer).__name__ == CORS_CLASS and hasattr(layer, "app"):
        middleware = copy(layer)
        middleware.app = responder
        return middleware  # type: ignore[no-any-return]
    if (added := added_cors(layer, responder)) is not None:
        return added
    for settings_of in _SETTINGS:
        settings = settings_of(layer, (_origin(scope) or b"").decode("latin-1"))
        if settings is not None:
            return CORSMiddleware(responder, **settings)
    return None


def _litestar(layer: Any, origin: str) -> Mapping[str, Any] | None:
    config = getattr(layer, "cors_config", None)
    if config is None:
        return None
    return {
        "allow_origins": config.allow_origins,
        "allow_origin_regex": config.allow_origin_regex,
        "allow_credentials": config.allow_credentials,
        "expose_headers": config.expose_headers,
    }


def _blacksheep(layer: Any, origin: str) -> Mapping[str, Any] | None:
    policy = getattr(getattr(layer, "_cors_strategy", None), "default_policy", None)
    if policy is None:
        return None
    return {
        "allow_origins": policy.allow_origins,
        "allow_credentials": policy.allow_credentials,
        "expose_headers": policy.expose_headers,
    }


def _falcon(layer: Any, origin: str) -> Mapping[str, Any] | None:
    entries = getattr(layer, "_unprepared_middleware", None) or ()
    policy = next((entry for entry in entries if type(entry).__name__ == CORS_CLASS), None)
    if policy is None:
        return None
    exposed = policy.expose_headers
    return {
        "allow_origins": ("*",) if policy.allow_origins == "*" else policy.allow_origins,
        "allow_credentials": policy.allow_credentials == "*" or origin in policy.allow_credentials,
        "expose_headers": exposed.split(", ") if exposed else (),
    }


_SETTINGS: Final[tuple[Callable[[Any, str], Mapping[str, Any] | None], ...]] = (_litestar, _blacksheep, _falcon)
"""How frameworks that have CORS built in keep its settings: checked with Litestar 2.25, BlackSheep 2.6, Falcon 4.4."""
