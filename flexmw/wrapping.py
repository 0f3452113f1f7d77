"""Put components around an app, or inside a client.

>>> import httpx, flexmw
>>> async def app(scope, receive, send): ...
>>> guarded = flexmw.wrap_app(app)
>>> client = flexmw.wrap_client(httpx.Client(), flexmw.Retry(attempts=2))
>>> client.close()
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, Final, NamedTuple, TypeVar, cast
from weakref import WeakValueDictionary, finalize

from starlette.types import ASGIApp

from flexmw.errors import ConfigError, PluginError
from flexmw.frameworks import Interior, check_asgi, put_for
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.component import Component
from flexmw.kit.paths import wrapped_apps
from flexmw.kit.transport import components_of
from flexmw.registry import check_order, component

__all__ = ["SIDES", "components_around", "install", "resolve", "wrap_app", "wrap_client"]

AppT = TypeVar("AppT")
ClientT = TypeVar("ClientT")

SIDES: Final = {"asgi": "server", "flow": "client"}
"""The method of a component, and the side that has it."""


class _Wrapped(NamedTuple):
    """The record of one call of :func:`wrap_app`.

    :ivar components: outermost first.
    :ivar inside: the ids of the app that was wrapped, and of the apps that it wraps.
    """

    components: tuple[Component, ...]
    inside: frozenset[int]


_wrapped: Final[dict[int, _Wrapped]] = {}
"""By the id of the app that :func:`wrap_app` has returned, while that app lives. An app need not be hashable."""

_installed: Final[WeakValueDictionary[int, Interior]] = WeakValueDictionary()
"""By the id of the app that :func:`install` was called with. The interior keeps the app alive, so no id is reused."""

_DEFAULT: Final = {"asgi": ("tagging", "envelope"), "flow": ("tagging", "retry")}
_TRANSPORTS: Final = {"Client": "Transport", "AsyncClient": "AsyncTransport"}


def wrap_app(app: Callable[..., Awaitable[None]], *components: Component | str) -> ASGIApp:
    """Wrap an ASGI app in components.

    :param app: any ASGI app.
    :param components: objects or names, outermost first; ``Tagging(), Envelope()`` if there are none.
    :return: the wrapped app. The object ``app`` itself is not changed.
    :raises ConfigError: the app is wrapped already, a component has no ``asgi`` method, the components are in a wrong
        order, or an option cannot work.
    :raises PluginError: a name leads to a plugin that cannot be used.
    """
    check_asgi(app, "wrap_app(app)")
    _check_unwrapped(app, "wrap_app(app)")
    resolved = _with_side(components, "asgi")
    inside = frozenset(id(layer) for layer in wrapped_apps(app))
    wrapped = _layers(resolved, app)
    with suppress(TypeError):  # an app of a third-party component that no weak reference can refer to
        finalize(wrapped, _wrapped.pop, id(wrapped), None)
        _wrapped[id(wrapped)] = _Wrapped(resolved, inside)
    return wrapped


def install(app: AppT, *components: Component | str) -> AppT:
    """Put components into an app of FastAPI, Starlette, Litestar or Quart, around everything in it.

    The app stays the same object: ``fastapi run``, ``dependency_overrides``, ``url_path_for``, test clients and
    instrumentors go on working. Middleware of the app is inside the components, also what is added later.

    :param app: an app of one of these frameworks, before or after its routes and middleware are added.
    :param components: objects or names, outermost first; ``Tagging(), Envelope()`` if there are none.
    :return: the same app.
    :raises ConfigError: another kind of app, an app that has components already, a component without an ``asgi``
        method, components in a wrong order, or an option that cannot work.
    :raises PluginError: a name leads to a plugin that cannot be used.
    """
    _check_unwrapped(app, "install(app)")
    put = put_for(app)
    if any(id(app) in wrapped.inside for wrapped in _wrapped.values()):
        expected = "an app that wrap_app has not wrapped: every component would act twice"
        raise ConfigError("install(app)", app, expected)
    resolved = _with_side(components, "asgi")
    interior = Interior(app, resolved)
    put(app, interior, _layers(resolved, interior))
    _installed[id(app)] = interior
    return app


def components_around(app: object) -> tuple[Component, ...]:
    """The components that :func:`wrap_app` or :func:`install` has put around an app, outermost first."""
    wrapped = _wrapped.get(id(app))
    interior = _installed.get(id(app))
    return wrapped.components if wrapped is not None else () if interior is None else interior.components


def _check_unwrapped(app: object, option: str) -> None:
    """Refuse an app that has components.

    :raises ConfigError: the app has components.
    """
    if any(id(layer) in _wrapped or id(layer) in _installed for layer in wrapped_apps(app)):
        raise ConfigError(option, app, "an app without components: wrap it or install them once, all in one call")


def _layers(components: Sequence[Any], app: ASGIApp) -> ASGIApp:
    """Wrap an app in components, outermost first."""
    for item in reversed(components):
        app = _layered(item, app)
    return app


def _layered(component: Any, app: ASGIApp) -> ASGIApp:
    """Wrap an app in one component. What ``asgi`` returns is checked here, and not by the first request.

    :raises PluginError: ``component.asgi(app)`` returns no app.
    """
    layered: Any = component.asgi(app)
    if not callable(layered):
        name = getattr(component, "name", type(component).__name__)
        problem = f"its asgi() returned {type(layered).__name__}, which is no ASGI app"
        raise PluginError(name, problem, fix="Its author should return the wrapped app")
    return cast("ASGIApp", layered)


def wrap_client(client: ClientT, *components: Component | str, clock: Clock = SYSTEM) -> ClientT:
    """Wrap the transports of a client in components, in place.

    The proxies, mounts, limits, certificates, HTTP/2 and event hooks of the client stay as they are.

    :param client: a ``Client`` or ``AsyncClient`` of httpx or httpx2, or of a subclass, such as an SDK's client.
    :param components: objects or names, outermost first; ``Tagging(), Retry()`` if there are none.
    :param clock: the clock of all waits; for tests.
    :return: the same client.
    :raises ConfigError: another kind of client, a client that is wrapped already, a component without a ``flow``
        method, components in a wrong order, or an option that cannot work.
    :raises PluginError: a name leads to a plugin that cannot be used.
    """
    library, transport_class = _binding(client)
    resolved = _with_side(components, "flow")
    wrapped: dict[int, Any] = {}

    def wrap(transport: Any) -> Any:
        if transport is None:
            return None
        if components_of(transport):
            raise ConfigError("wrap_client(client)", client, "a client that is not wrapped yet: wrap it once")
        make = getattr(import_module(f"flexmw.{library}"), transport_class)
        return wrapped.setdefault(id(transport), make(*resolved, transport=transport, clock=clock))

    target: Any = client
    transport, mounts = wrap(target._transport), {pattern: wrap(mounted) for pattern, mounted in target._mounts.items()}
    target._transport, target._mounts = transport, mounts
    return client


def resolve(given: Sequence[Component | str]) -> tuple[Component, ...]:
    """Return the components, with names resolved.

    :raises ConfigError: a component has neither an ``asgi`` nor a ``flow`` method, or the components are in a wrong
        order.
    :raises PluginError: a name leads to a plugin that cannot be used.
    """
    components = tuple(component(item) if isinstance(item, str) else item for item in given)
    for item in components:
        if isinstance(item, type):
            raise ConfigError("component", item, f"an object: {item.__name__}(...)")
        if not any(hasattr(item, method) for method in SIDES):
            raise ConfigError("component", item, "an object with an `asgi` or a `flow` method, or the name of one")
    check_order(components)
    return components


def _with_side(given: Sequence[Component | str], method: str) -> tuple[Any, ...]:
    """Return the components, or the default ones.

    :raises ConfigError: a component does not have the method.
    """
    components = resolve(given or _DEFAULT[method])
    for item in components:
        if not hasattr(item, method):
            only_side = next(side for name, side in SIDES.items() if name != method)
            raise ConfigError(
                f"component {getattr(item, 'name', '?')!r}",
                item,
                f"one with a {SIDES[method]} side (`{method}`); this one has only a {only_side} side",
            )
    return components


def _binding(client: object) -> tuple[str, str]:
    """The name of the client's library, and of the transport class that the client needs."""
    # The class is compared by identity: SDKs re-export classes under a module name of their own.
    for library in ("httpx2", "httpx"):
        module = sys.modules.get(library)
        for client_class, transport_class in _TRANSPORTS.items() if module else ():
            if isinstance(client, getattr(module, client_class)):
                return library, transport_class
    raise ConfigError(
        "wrap_client(client)",
        client,
        "a Client or AsyncClient of httpx or httpx2; wrap an SDK's before handing it over: "
        "OpenAI(http_client=flexmw.wrap_client(DefaultHttpxClient()))",
    )
