"""Starlette's error handling, routes and its experimental ``OpenTelemetryMiddleware``.

Checked with Starlette 1.10. Read are: the module names of frames in a traceback (``ServerErrorMiddleware`` raises an
exception again after it has responded), ``scope["starlette.opentelemetry"]``, ``app.user_middleware``, and
``scope["route"].path_format``; of FastAPI's telemetry ``route``; inside of a mount also ``scope["router"].routes`` and
the ``path_regex`` and ``path_format`` of mounts.

When Starlette changes: with other module names, an exception on the span of ``OpenTelemetryMiddleware`` is recorded by
flexmw a second time. Without ``path_format``, ``http.route`` is missing from metrics and log events unless
``Tagging(route=...)`` is set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any, Final

from flexmw.contract.exception_slots import traceback_of
from flexmw.tagging.instruments.fastapi import ROUTE

__all__ = [
    "CHECKED_WITH",
    "MODULE",
    "REST",
    "SCOPE_KEY",
    "TEMPLATE",
    "is_app",
    "is_instrumented",
    "is_raised_again",
    "middleware_modules",
    "route_of",
]

CHECKED_WITH: Final = {"starlette": "1.10"}

MODULE: Final = "starlette.middleware.opentelemetry"
"""The module of ``OpenTelemetryMiddleware``. An exception that has passed its frame is on its span."""

SCOPE_KEY: Final = "starlette.opentelemetry"
"""The scope key that ``OpenTelemetryMiddleware`` sets while its app runs."""

TEMPLATE: Final = "path_format"
"""The attribute of a route with its template."""

REST: Final = "/{path}"
"""The end of the template of a mount."""

_MAX_MOUNTS: Final = 20
_RAISE_AGAIN: Final = ("starlette.middleware.errors", "flexmw.")
"""Modules that send an error response for an exception and then raise it again: Starlette's, and flexmw's Envelope."""


def is_raised_again(error: BaseException) -> bool:
    """Whether the code that handles ``error`` now will raise it again after the response."""
    traceback = traceback_of(error)
    return traceback is not None and str(traceback.tb_frame.f_globals.get("__name__")).startswith(_RAISE_AGAIN)


def middleware_modules(app: object) -> Iterator[str]:
    """Yield the module of each middleware that was added to a Starlette app. Other apps yield nothing, or empty texts:
    the entries of Lilya have no ``cls``, a factory may be any callable, and Flama says ``None``."""
    entries = getattr(app, "user_middleware", None) or ()
    return (getattr(getattr(entry, "cls", None), "__module__", "") for entry in entries)


def is_instrumented(scope: MutableMapping[str, Any]) -> bool:
    """Whether an ``OpenTelemetryMiddleware`` further outward has a span of this request, or excludes the request."""
    return bool(scope.get(SCOPE_KEY))


def is_app(app: object) -> bool:
    """Whether ``app`` is an app of Starlette or FastAPI, which sets ``scope["app"]``."""
    return hasattr(app, "user_middleware") and hasattr(app, "router")


def route_of(scope: MutableMapping[str, Any], telemetry: object = None) -> str | None:
    """The template of the matched route, such as ``/users/{id}``; ``None`` before routing and for other routers.

    Inside of mounts the templates of the mounts come first. ``scope["root_path"]`` has the path of the request there,
    which is the caller's text and never part of a route. Where no route of a mounted app matches, the template ends
    with ``/{path}``.

    :param telemetry: FastAPI's telemetry of the request. What FastAPI has written to its span comes first.
    """
    # Most requests need the first lines alone, which are one frame for that reason.
    if telemetry is not None and type(template := getattr(telemetry, ROUTE, None)) is str:
        return template
    route, root = scope.get("route"), scope.get("root_path", "")
    template = getattr(route, TEMPLATE, None)
    if not root and type(template) is str and not template.endswith(REST):
        return template
    return _route_inside(scope, route, root)


def _route_inside(scope: MutableMapping[str, Any], route: Any, root: str) -> str | None:
    """The template of a route inside of mounts, or of a mount.

    :param root: the path that the mounts have matched.
    """
    base, template = scope.get("app_root_path", root), getattr(route, TEMPLATE, None)
    if root == base and not _is_mount(route):
        return root.rstrip("/") + template if isinstance(template, str) else None
    mounts = _mounts_of(scope.get("router"), root[len(base) :], _MAX_MOUNTS)
    if mounts is None:
        return None
    end = REST if _is_mount(route) or not isinstance(template, str) else template
    return str(base).rstrip("/") + mounts + end


def _mounts_of(router: Any, path: str, depth: int) -> str | None:
    """The templates of the mounts that a request has passed, joined; ``None`` where they cannot be found.

    :param path: what the mounts have matched, such as ``/tenants/acme``.
    """
    if not path:
        return ""
    for route in _routes_of(router) if depth else ():
        template: str | None = None
        if _is_mount(route):
            match = route.path_regex.match(f"{path}/")
            rest = None if match is None else match.groupdict().get("path")
            if rest is not None:
                template = _mounts_of(route.app, f"/{rest}".rstrip("/"), depth - 1)
                template = None if template is None else route.path_format.removesuffix(REST) + template
        elif hasattr(route, "host_regex"):
            template = _mounts_of(route.app, path, depth - 1)
        if template is not None:
            return template
    return None


def _is_mount(route: object) -> bool:
    """Whether a route is a mount: its template ends with the rest of the path, and it has an app."""
    return str(getattr(route, TEMPLATE, "")).endswith(REST) and hasattr(route, "app") and hasattr(route, "routes")


def _routes_of(app: Any) -> Iterable[Any]:
    """The routes of a router, an app, or an app inside of middleware."""
    for _ in range(_MAX_MOUNTS):
        if (routes := getattr(app, "routes", None)) is not None:
            return tuple(routes)
        app = getattr(app, "app", None)
    return ()
