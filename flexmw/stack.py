"""Compose components around an app or inside a client, from code or from ``flexmw.toml``.

>>> import httpx, flexmw
>>> async def app(scope, receive, send): ...
>>> guarded = flexmw.wrap_app(app)
>>> client = flexmw.wrap_client(httpx.Client(), flexmw.Retry(attempts=2))
>>> client.close()
>>> Stack(flexmw.Retry(attempts=2)).describe()[0]["options"]["attempts"]
2
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from importlib import import_module
from os import PathLike
from typing import Any, Final, Self, TypeVar, cast
from weakref import finalize

from starlette.types import ASGIApp

from flexmw.config import read
from flexmw.contract import redact
from flexmw.errors import ConfigError, PluginError
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.component import Component
from flexmw.kit.paths import wrapped_apps
from flexmw.kit.transport import components_of
from flexmw.registry import check_order, component

__all__ = ["Stack", "wrap_app", "wrap_client"]

ClientT = TypeVar("ClientT")

_wrapped: Final[set[int]] = set()
"""The ids of what :func:`wrap_app` has returned, while it lives. An app need not be hashable."""

_DEFAULT: Final = {"asgi": ("tagging", "envelope"), "flow": ("tagging", "retry")}
_TRANSPORTS: Final = {"Client": "Transport", "AsyncClient": "AsyncTransport"}
_SIDES: Final = {"asgi": "server", "flow": "client"}


def wrap_app(app: ASGIApp, *components: Component | str) -> ASGIApp:
    """Wrap an ASGI app in components.

    :param app: any ASGI app.
    :param components: objects or names, outermost first; ``Tagging(), Envelope()`` if there are none.
    :return: the wrapped app. The object ``app`` itself is not changed.
    :raises ConfigError: the app is wrapped already, a component has no ``asgi`` method, the components are in a wrong
        order, or an option cannot work.
    :raises PluginError: a name leads to a plugin that cannot be used.
    """
    if not callable(app):
        raise ConfigError("wrap_app(app)", type(app), "an ASGI application")  # the value may hold secrets
    if any(id(layer) in _wrapped for layer in wrapped_apps(app)):
        raise ConfigError("wrap_app(app)", app, "an app that is not wrapped yet: wrap it once, with all components")
    for layer in reversed(_resolve(components, "asgi")):
        app = _layered(layer, app)
    with suppress(TypeError):  # an app of a third-party component that no weak reference can refer to
        finalize(app, _wrapped.discard, id(app))
        _wrapped.add(id(app))
    return app


def _layered(component: Any, app: ASGIApp) -> ASGIApp:
    """``component.asgi(app)``, which must be an app: otherwise the first request would find out.

    :raises PluginError: it is not.
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
    resolved = _resolve(components, "flow")
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


class Stack:
    """An ordered list of components for an app, for a client, or for both.

    :meth:`wrap_app` uses the components with an ``asgi`` method, :meth:`wrap_client` those with a ``flow`` method.

    :param components: objects or names, outermost first.
    :raises ConfigError: a component has neither method, or the components are in a wrong order.
    :raises PluginError: a name leads to a plugin that cannot be used.
    """

    def __init__(self, *components: Component | str) -> None:
        self.components = _components(components)

    @classmethod
    def load(cls, path: str | PathLike[str] = "flexmw.toml") -> Self:
        """Read a TOML file with one table per component, outermost first. The keys of a table are the options.

        ``{ env = "NAME" }`` in place of a value takes the value from the environment.

        :param path: the file. In ``pyproject.toml`` the tables stand under ``[tool.flexmw]``.
        :raises ConfigError: the file or one of its options cannot be used; the error names file, line and key.
        :raises PluginError: a table names a plugin that cannot be used.
        """
        components = read(path, component)
        try:
            return cls(*components)
        except ConfigError as error:
            raise error.at(str(path)) from error

    def wrap_app(self, app: ASGIApp) -> ASGIApp:
        """Wrap an app in the components that have an ``asgi`` method; see :func:`wrap_app`."""
        return wrap_app(app, *self._with("asgi"))

    def wrap_client(self, client: ClientT, *, clock: Clock = SYSTEM) -> ClientT:
        """Wrap a client in the components that have a ``flow`` method; see :func:`wrap_client`."""
        return wrap_client(client, *self._with("flow"), clock=clock)

    def describe(self) -> list[dict[str, Any]]:
        """Name, sides (``faces``: ``server``, ``client``) and options of each component, with secrets masked."""
        return [
            {
                "name": each.name,
                "faces": [side for method, side in _SIDES.items() if hasattr(each, method)],
                "options": _options(each),
            }
            for each in self.components
        ]

    def _with(self, method: str) -> list[Component]:
        chosen = [each for each in self.components if hasattr(each, method)]
        if not chosen:
            names = [each.name for each in self.components]
            raise ConfigError("Stack", names, f"at least one component with a {_SIDES[method]} side (`{method}`)")
        return chosen

    def __repr__(self) -> str:
        return redact(f"Stack({', '.join(map(repr, self.components))})")


def _components(given: Sequence[Component | str]) -> tuple[Component, ...]:
    """The components, names resolved, in an order that every one of them accepts."""
    components = tuple(component(each) if isinstance(each, str) else each for each in given)
    for each in components:
        if isinstance(each, type):
            raise ConfigError("component", each, f"an object: {each.__name__}(...)")
        if not any(hasattr(each, method) for method in _SIDES):
            raise ConfigError("component", each, "an object with an `asgi` or a `flow` method, or the name of one")
    check_order(components)
    return components


def _resolve(given: Sequence[Component | str], method: str) -> tuple[Any, ...]:
    """The components, or the default ones, all of which have the method."""
    components = _components(given or _DEFAULT[method])
    for each in components:
        if not hasattr(each, method):
            other = next(side for name, side in _SIDES.items() if name != method)
            raise ConfigError(
                f"component {getattr(each, 'name', '?')!r}",
                each,
                f"one with a {_SIDES[method]} side (`{method}`); this one has only a {other} side",
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


def _options(component: Any) -> dict[str, Any]:
    if not is_dataclass(component):
        return {}
    return {
        option.name: "***" if option.metadata.get("secret") else _shown(getattr(component, option.name))
        for option in fields(component)
        if option.init and not option.metadata.get("hidden")
    }


def _shown(value: Any) -> Any:
    """A value as JSON can hold it, without secrets."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, (tuple, list)):
        return [_shown(item) for item in cast("tuple[Any, ...]", value)]
    return value if isinstance(value, (int, float, bool, type(None))) else redact(repr(value))
