"""Components around an app or inside a client: composed in code, or read from ``flexmw.toml``.

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
from dataclasses import fields, is_dataclass
from importlib import import_module
from os import PathLike
from typing import Any, Final, Self, TypeVar, cast

from starlette.types import ASGIApp

from flexmw.config import read
from flexmw.contract import redact
from flexmw.errors import ConfigError
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.component import Component
from flexmw.kit.transport import components_of
from flexmw.registry import check_order, component

__all__ = ["Stack", "wrap_app", "wrap_client"]

ClientT = TypeVar("ClientT")

_DEFAULT: Final = {"asgi": ("tagging", "envelope"), "flow": ("tagging", "retry")}
_KINDS: Final = {"Client": "Transport", "AsyncClient": "AsyncTransport"}
_FACES: Final = {"asgi": "server", "flow": "client"}


def wrap_app(app: ASGIApp, *components: Component | str) -> ASGIApp:
    """Any ASGI app with components around it, outermost first; ``Tagging(), Envelope()`` if none are given.

    A component is given as an object or by its name.

    :raises ConfigError: a component without a server face, components in a wrong order, an option that cannot work.
    :raises PluginError: a name whose plugin cannot be used.
    """
    if not callable(app):
        raise ConfigError("wrap_app(app)", app, "an ASGI application")
    for each in reversed(_resolve(components, "asgi")):
        app = each.asgi(app)
    return app


def wrap_client(client: ClientT, *components: Component | str, clock: Clock = SYSTEM) -> ClientT:
    """The same client, its transports wrapped in place; ``Tagging(), Retry()`` if no components are given.

    Takes ``Client`` and ``AsyncClient`` of httpx and httpx2 and their subclasses, such as an SDK's. Its proxies,
    mounts, limits, certificates, HTTP/2 and event hooks stay as they are.

    :param clock: waits are spent on it; tests bring their own.
    :raises ConfigError: no such client, a client that is wrapped already, or as :func:`wrap_app`.
    """
    binding, face = _binding(client)
    resolved = _resolve(components, "flow")
    wrapped: dict[int, Any] = {}

    def wrap(transport: Any) -> Any:
        if transport is None:
            return None
        if components_of(transport):
            raise ConfigError("wrap_client(client)", client, "a client that is not wrapped yet: wrap it once")
        make = getattr(import_module(f"flexmw.{binding}"), face)
        return wrapped.setdefault(id(transport), make(*resolved, transport=transport, clock=clock))

    target: Any = client
    transport, mounts = wrap(target._transport), {at: wrap(each) for at, each in target._mounts.items()}
    target._transport, target._mounts = transport, mounts
    return client


class Stack:
    """An ordered list of components for a server, a client, or both: each wrap takes those with the face it needs."""

    def __init__(self, *components: Component | str) -> None:
        self.components = _components(components)

    @classmethod
    def load(cls, path: str | PathLike[str] = "flexmw.toml") -> Self:
        """Read a TOML file: one table per component, in order, outermost first; its keys are the options.

        In ``pyproject.toml`` the tables live under ``[tool.flexmw]``. ``{ env = "NAME" }`` in place of a value takes
        it from the environment.

        :raises ConfigError: naming file, line and key.
        """
        components = read(path, component)
        try:
            return cls(*components)
        except ConfigError as error:
            raise error.at(str(path)) from error

    def wrap_app(self, app: ASGIApp) -> ASGIApp:
        """Wrap an app with the components that have a server face."""
        return wrap_app(app, *self._with("asgi"))

    def wrap_client(self, client: ClientT, *, clock: Clock = SYSTEM) -> ClientT:
        """Wrap a client with the components that have a client face."""
        return wrap_client(client, *self._with("flow"), clock=clock)

    def describe(self) -> list[dict[str, Any]]:
        """What was composed, for tests and logs: name, faces and options of each component, secrets masked."""
        return [
            {
                "name": each.name,
                "faces": [face for method, face in _FACES.items() if hasattr(each, method)],
                "options": _options(each),
            }
            for each in self.components
        ]

    def _with(self, method: str) -> list[Component]:
        chosen = [each for each in self.components if hasattr(each, method)]
        if not chosen:
            names = [each.name for each in self.components]
            raise ConfigError("Stack", names, f"at least one component with a {_FACES[method]} face (`{method}`)")
        return chosen

    def __repr__(self) -> str:
        return redact(f"Stack({', '.join(map(repr, self.components))})")


def _components(given: Sequence[Component | str]) -> tuple[Component, ...]:
    found = tuple(component(each) if isinstance(each, str) else each for each in given)
    for each in found:
        if isinstance(each, type):
            raise ConfigError("component", each, f"an object: {each.__name__}(...)")
        if not any(hasattr(each, method) for method in _FACES):
            raise ConfigError("component", each, "an object with an `asgi` or a `flow` method, or the name of one")
    check_order(found)
    return found


def _resolve(given: Sequence[Component | str], method: str) -> tuple[Any, ...]:
    found = _components(given or _DEFAULT[method])
    for each in found:
        if not hasattr(each, method):
            other = next(face for other, face in _FACES.items() if other != method)
            raise ConfigError(
                f"component {getattr(each, 'name', '?')!r}",
                each,
                f"one with a {_FACES[method]} face (`{method}`); this one has only a {other} face",
            )
    return found


def _binding(client: object) -> tuple[str, str]:
    """The library that a client belongs to, and the transport class that it needs."""
    for library in ("httpx2", "httpx"):  # by identity: SDKs give the classes they re-export a module name of their own
        module = sys.modules.get(library)
        for kind, face in _KINDS.items() if module else ():
            if isinstance(client, getattr(module, kind)):
                return library, face
    raise ConfigError(
        "wrap_client(client)",
        client,
        "a Client or AsyncClient of httpx or httpx2; wrap an SDK's before handing it over: "
        "OpenAI(http_client=flexmw.wrap_client(DefaultHttpxClient()))",
    )


def _options(each: Any) -> dict[str, Any]:
    if not is_dataclass(each):
        return {}
    return {
        option.name: "***" if option.metadata.get("secret") else _shown(getattr(each, option.name))
        for option in fields(each)
        if option.init and not option.metadata.get("hidden")
    }


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, (tuple, list)):
        return [_shown(item) for item in cast("tuple[Any, ...]", value)]
    return value if isinstance(value, (int, float, bool, type(None))) else redact(repr(value))
