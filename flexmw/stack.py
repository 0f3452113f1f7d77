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
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import Field, fields, is_dataclass
from importlib import import_module
from os import PathLike
from typing import Any, Final, NamedTuple, Self, TypeVar, cast
from weakref import WeakValueDictionary, finalize

from starlette.types import ASGIApp

from flexmw.config import Configuration, load
from flexmw.contract import redact
from flexmw.errors import ConfigError, PluginError
from flexmw.frameworks import Interior, check_asgi, put_for
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.component import Component
from flexmw.kit.paths import wrapped_apps
from flexmw.kit.transport import components_of
from flexmw.registry import check_order, component, sort

__all__ = ["Stack", "components_around", "install", "wrap_app", "wrap_client"]

AppT = TypeVar("AppT")
ClientT = TypeVar("ClientT")


class _Wrapped(NamedTuple):
    """What :func:`wrap_app` has done.

    :ivar components: outermost first.
    :ivar inside: the ids of the app that was wrapped, and of the apps that it wraps.
    """

    components: tuple[Component, ...]
    inside: frozenset[int]


_wrapped: Final[dict[int, _Wrapped]] = {}
"""By the id of what :func:`wrap_app` has returned, while it lives. An app need not be hashable."""

_installed: Final[WeakValueDictionary[int, Interior]] = WeakValueDictionary()
"""By the id of the app that :func:`install` was called with. The interior keeps the app alive, so no id is reused."""

_DEFAULT: Final = {"asgi": ("tagging", "envelope"), "flow": ("tagging", "retry")}
_TRANSPORTS: Final = {"Client": "Transport", "AsyncClient": "AsyncTransport"}
_SIDES: Final = {"asgi": "server", "flow": "client"}


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
    resolved = _resolve(components, "asgi")
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
    resolved = _resolve(components, "asgi")
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

    :raises ConfigError: it has.
    """
    if any(id(layer) in _wrapped or id(layer) in _installed for layer in wrapped_apps(app)):
        raise ConfigError(option, app, "an app without components: wrap it or install them once, all in one call")


def _layers(components: Sequence[Any], app: ASGIApp) -> ASGIApp:
    """The app in components, outermost first."""
    for each in reversed(components):
        app = _layered(each, app)
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

    :meth:`install` and :meth:`wrap_app` use the components with an ``asgi`` method, :meth:`wrap_client` those with a
    ``flow`` method.

    :param components: objects or names, outermost first.
    :raises ConfigError: a component has neither method, or the components are in a wrong order.
    :raises PluginError: a name leads to a plugin that cannot be used.
    """

    def __init__(self, *components: Component | str) -> None:
        self.components = _components(components)
        self._configuration: Configuration | None = None

    @classmethod
    def load(
        cls,
        path: str | PathLike[str] = "flexmw.toml",
        *,
        profile: str | None = None,
        overrides: Iterable[str] = (),
    ) -> Self:
        """Read a TOML file with one table per component, outermost first. The keys of a table are the options.

        ``{ env = "NAME" }`` in place of a value takes the value from the environment; ``default`` and ``type`` beside
        it are optional.

        :param path: the file. In ``pyproject.toml`` the tables stand under ``[tool.flexmw]``.
        :param profile: the name of a profile, whose tables ``[profile.NAME.component]`` lie over those of the file.
            ``None`` takes the name from the environment variable ``FLEXMW_PROFILE``, if it is set.
        :param overrides: texts such as ``"ratelimit.rates=10/minute"``, which lie over file and profile. The second of
            several tables is ``ratelimit.1``.
        :raises ConfigError: the file or one of its options cannot be used, also in a profile that is not chosen; the
            error names file, line and key.
        :raises PluginError: a table names a plugin that cannot be used.

        A component that only a profile or an override has is put where its ``order`` requires it.
        """
        return cls.of(load(path, component, profile=profile, overrides=overrides))

    @classmethod
    def of(cls, configuration: Configuration) -> Self:
        """The stack of a configuration that is read."""
        components = configuration.components
        with _located(configuration):
            stack = cls(*(sort(components) if configuration.is_extended else components))
        stack._configuration = configuration
        return stack

    def wrap_app(self, app: Callable[..., Awaitable[None]]) -> ASGIApp:
        """Wrap an app in the components that have an ``asgi`` method; see :func:`wrap_app`."""
        with _located(self._configuration):
            return wrap_app(app, *self._with("asgi"))

    def install(self, app: AppT) -> AppT:
        """Put the components that have an ``asgi`` method into an app; see :func:`install`."""
        with _located(self._configuration):
            return install(app, *self._with("asgi"))

    def wrap_client(self, client: ClientT, *, clock: Clock = SYSTEM) -> ClientT:
        """Wrap a client in the components that have a ``flow`` method; see :func:`wrap_client`."""
        with _located(self._configuration):
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


@contextmanager
def _located(configuration: Configuration | None) -> Generator[None]:
    """Add file and line to a ConfigError about a component of the configuration."""
    try:
        yield
    except ConfigError as error:
        located = error if configuration is None else configuration.located(error)
        if located is error:
            raise
        raise located from error


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
        option.name: _shown_option(option, getattr(component, option.name))
        for option in fields(component)
        if option.init and not option.metadata.get("hidden")
    }


def _shown_option(option: Field[Any], value: Any) -> Any:
    """The value of an option as JSON can hold it, without secrets. A secret that is not set is no secret."""
    if value is None or not option.metadata.get("secret"):
        return _shown(value)
    shown = option.metadata.get("shown")
    return "***" if shown is None else redact(shown(value))


def _shown(value: Any) -> Any:
    """A value as JSON can hold it, without secrets."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, (tuple, list)):
        return [_shown(item) for item in cast("tuple[Any, ...]", value)]
    return value if isinstance(value, (int, float, bool, type(None))) else redact(repr(value))
