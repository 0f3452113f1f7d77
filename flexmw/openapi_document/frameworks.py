"""Where frameworks keep the OpenAPI document of an app.

Checked with FastAPI 0.165 and Litestar 2.25. FastAPI calls ``app.openapi()`` for each page. Litestar keeps the document
in its ``OpenAPIPlugin``, which computes it once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, Protocol, cast

from flexmw.errors import ConfigError
from flexmw.kit.documentation import Documented
from flexmw.kit.paths import wrapped_apps

__all__ = ["FrameworkDocument", "document_of", "is_reading"]

Complete = Callable[[dict[str, Any]], dict[str, Any]]

_reading: Final[ContextVar[bool]] = ContextVar("flexmw.openapi", default=False)
"""True while the document of an app is read: ``app.openapi = lambda: flexmw.openapi(app)`` calls itself."""


def is_reading() -> bool:
    """Whether the document of an app is being read in this call."""
    return _reading.get()


class FrameworkDocument(Protocol):
    """The document of one app.

    :ivar reads_json: the framework refuses a malformed JSON body before the endpoint sees it, with an error that its
        document does not have.
    """

    reads_json: bool

    def read(self) -> dict[str, Any]:
        """The document that the framework makes."""
        ...

    def serve(self, complete: Complete) -> None:
        """Serve the document that ``complete`` makes of the framework's own."""
        ...

    def middleware(self) -> list[object]:
        """The components in the app's own list of middleware, outermost first."""
        ...

    def of_routes(self) -> Mapping[tuple[str, str], list[Documented]]:
        """The limits of single routes, by path template and method."""
        ...


class _FastAPIDocument:
    reads_json: bool = True

    def __init__(self, app: Any) -> None:
        self._app = app

    def read(self) -> dict[str, Any]:
        if is_reading():
            document: dict[str, Any] = type(self._app).openapi(self._app)
            return document
        token = _reading.set(True)
        try:
            return self._own()()
        finally:
            _reading.reset(token)

    def serve(self, complete: Complete) -> None:
        own = self._own()
        made: list[tuple[dict[str, Any], dict[str, Any]]] = []

        def openapi() -> dict[str, Any]:
            document = own()
            if not made or made[0][0] is not document:
                made[:] = [(document, complete(document))]
            return made[0][1]

        openapi.own = own  # type: ignore[attr-defined]
        self._app.openapi = openapi

    def _own(self) -> Callable[[], dict[str, Any]]:
        """The function that makes the app's own document, also where the complete one is served already."""
        function = self._app.openapi
        own: Callable[[], dict[str, Any]] = getattr(function, "own", function)
        return own

    def middleware(self) -> list[object]:
        return [_component_of(entry) for entry in self._app.user_middleware]

    def of_routes(self) -> Mapping[tuple[str, str], list[Documented]]:
        found: dict[tuple[str, str], list[Documented]] = {}
        contexts = getattr(sys.modules.get("fastapi.routing"), "iter_route_contexts", None)
        for route in contexts(self._app.routes) if contexts is not None else self._app.routes:
            dependant = getattr(route, "dependant", None)
            limits = [] if dependant is None else list(_dependencies(dependant))
            for method in getattr(route, "methods", None) or () if limits else ():
                found.setdefault((route.path_format, method), []).extend(limits)
        return found


def _component_of(entry: Any) -> object:
    """The component of an entry in an app's list of middleware, which holds an object, its ``asgi`` or its class."""
    factory = _object_of(entry.cls)
    if isinstance(factory, type) and issubclass(factory, Documented):
        return factory(*entry.args, **entry.kwargs)
    return factory


def _object_of(factory: Any) -> object:
    """The object of a bound method, or of a partial of one; any other value as it is."""
    if isinstance(factory, partial) and factory.args:
        return cast("tuple[object, ...]", factory.args)[0]
    return getattr(factory, "__self__", factory)


def _dependencies(dependant: Any) -> Iterator[Documented]:
    """The limits among the dependencies of a route, and around its endpoint."""
    call = dependant.call
    while call is not None:
        if isinstance(call, Documented):
            yield call
        call = getattr(call, "__wrapped__", None)
    for dependency in dependant.dependencies:
        yield from _dependencies(dependency)


class _LitestarDocument:
    reads_json: bool = False

    def __init__(self, app: Any) -> None:
        plugins = [plugin for plugin in app.plugins if type(plugin).__name__ == "OpenAPIPlugin"]
        if app.openapi_config is None or not plugins:
            raise ConfigError("openapi(app)", app, "an app with an OpenAPI document: Litestar(openapi_config=...)")
        self._app, self._plugin = app, plugins[0]

    def read(self) -> dict[str, Any]:
        document: dict[str, Any] = self._app.openapi_schema.to_schema()
        return document

    def serve(self, complete: Complete) -> None:
        if not hasattr(self._plugin, "_openapi_schema"):
            expected = "an app of Litestar 2; serve flexmw.openapi(app) from a route of your own"
            raise ConfigError("openapi(app, serve=True)", self._app, expected)
        self._plugin._openapi_schema = complete(self.read())

    def middleware(self) -> list[object]:
        return [_object_of(entry) for entry in self._app.middleware]

    def of_routes(self) -> Mapping[tuple[str, str], list[Documented]]:
        found: dict[tuple[str, str], list[Documented]] = {}
        for route in self._app.routes:
            for method, (handler, _) in getattr(route, "route_handler_map", {}).items():
                limits = [guard for guard in handler.resolve_guards() if isinstance(guard, Documented)]
                function = handler.fn
                while function is not None:
                    if isinstance(function, Documented):
                        limits.append(function)
                    function = getattr(function, "__wrapped__", None)
                if limits:
                    found.setdefault((route.path_format, str(method)), []).extend(limits)
        return found


_FRAMEWORKS: Final[tuple[tuple[str, str, Callable[[Any], FrameworkDocument]], ...]] = (
    ("fastapi", "FastAPI", _FastAPIDocument),
    ("litestar", "Litestar", _LitestarDocument),
)


def document_of(app: object) -> FrameworkDocument:
    """The document of the first app of a known framework among an app and the apps that it wraps.

    :raises ConfigError: there is none.
    """
    for layer in wrapped_apps(app):
        for module, name, document in _FRAMEWORKS:
            app_class = getattr(sys.modules.get(module), name, None)
            if app_class is not None and isinstance(layer, app_class):
                return document(layer)
    raise ConfigError("openapi(app)", app, "an app of FastAPI or Litestar: other frameworks make no OpenAPI document")
