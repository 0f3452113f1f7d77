"""Route look-up after a 404: has the framework's router a route for the path?

Starlette, FastAPI and Litestar put the route into the scope. For the other frameworks, a function calls the router, and
only after a 404. If there is no such function, or if it fails, the path counts as one with a route: the response is
then ``not_found``, which is true in any case.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from flexmw.kit.asgi import Scope
from flexmw.kit.paths import wrapped_apps

__all__ = ["is_unrouted"]


def is_unrouted(scope: Scope, wrapped_app: object) -> bool:
    """True if no route of the framework has the path of a request.

    :param scope: the scope after the app has responded.
    :param wrapped_app: the app inside this middleware.
    """
    if "router" in scope:  # Starlette and FastAPI
        return scope.get("endpoint") is None
    if "litestar_app" in scope:
        return "route_handler" not in scope
    for layer in wrapped_apps(wrapped_app):
        has_route = _ROUTERS.get(type(layer).__module__.partition(".")[0])
        if has_route is not None:
            with suppress(Exception):  # a router of another version, or one of the app's own
                return not has_route(layer, _path(scope), scope)
    return False


def _path(scope: Scope) -> str:
    """The path without the root path."""
    path: str = scope["path"]
    root: str = (scope.get("root_path") or "").rstrip("/")
    return (path[len(root) :] or "/") if root and f"{path}/".startswith(f"{root}/") else path


def _blacksheep(app: Any, path: str, scope: Scope) -> bool:
    routes = (route for route in app.router.iter_all() if route is not app.router.fallback)
    return any(route.match_by_path(path.encode("utf-8", "surrogatepass")) for route in routes)


def _django(app: Any, path: str, scope: Scope) -> bool:
    urls: Any = sys.modules["django.urls"]
    try:
        urls.resolve(path)
    except urls.Resolver404:
        return False
    return True


def _falcon(app: Any, path: str, scope: Scope) -> bool:
    if any(app._router.find(spelling) is not None for spelling in {path, path.rstrip("/") or "/"}):
        return True
    return any(pattern.match(path) for pattern, *_ in app._sink_and_static_routes)


def _quart(app: Any, path: str, scope: Scope) -> bool:
    if getattr(app, "subdomain_matching", False):
        return True
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    return bool(app.url_map.bind(app.config.get("SERVER_NAME") or host or "host").allowed_methods(path))


_ROUTERS: Final[Mapping[str, Callable[[Any, str, Scope], bool]]] = {
    "blacksheep": _blacksheep,
    "django": _django,
    "falcon": _falcon,
    "quart": _quart,
}
"""For the package of a framework, a function that returns whether its app has a route for a path."""
