"""A stack: the components of an app, of a client or of both as one object, from code or from ``flexmw.toml``.

>>> import flexmw
>>> Stack(flexmw.Retry(attempts=2)).describe()[0]["options"]["attempts"]
2
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import Field, fields, is_dataclass
from os import PathLike
from typing import Any, Self, TypeVar, cast

from starlette.types import ASGIApp

from flexmw.config import Configuration, load
from flexmw.contract import redact
from flexmw.errors import ConfigError
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.component import Component
from flexmw.registry import component, sort
from flexmw.wrapping import SIDES, install, resolve, wrap_app, wrap_client

__all__ = ["Stack"]

AppT = TypeVar("AppT")
ClientT = TypeVar("ClientT")


class Stack:
    """An ordered list of components for an app, for a client, or for both.

    :meth:`install` and :meth:`wrap_app` use the components with an ``asgi`` method, :meth:`wrap_client` those with a
    ``flow`` method.

    :param components: objects or names, outermost first.
    :raises ConfigError: a component has neither method, or the components are in a wrong order.
    :raises PluginError: a name leads to a plugin that cannot be used.
    """

    def __init__(self, *components: Component | str) -> None:
        self.components = resolve(components)
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
        """Make the stack of a configuration file that has been read."""
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
                "name": item.name,
                "faces": [side for method, side in SIDES.items() if hasattr(item, method)],
                "options": _options(item),
            }
            for item in self.components
        ]

    def _with(self, method: str) -> list[Component]:
        chosen = [item for item in self.components if hasattr(item, method)]
        if not chosen:
            names = [item.name for item in self.components]
            raise ConfigError("Stack", names, f"at least one component with a {SIDES[method]} side (`{method}`)")
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


def _options(component: Any) -> dict[str, Any]:
    if not is_dataclass(component):
        return {}
    return {
        option.name: _shown_option(option, getattr(component, option.name))
        for option in fields(component)
        if option.init and not option.metadata.get("hidden")
    }


def _shown_option(option: Field[Any], value: Any) -> Any:
    """Return the value of an option in a form that JSON can hold. A secret is masked, unless it is ``None``."""
    if value is None or not option.metadata.get("secret"):
        return _shown(value)
    shown = option.metadata.get("shown")
    return "***" if shown is None else redact(shown(value))


def _shown(value: Any) -> Any:
    """Return a value in a form that JSON can hold, with secrets masked."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, (tuple, list)):
        return [_shown(item) for item in cast("tuple[Any, ...]", value)]
    return value if isinstance(value, (int, float, bool, type(None))) else redact(repr(value))
