"""What a component is: a frozen options object with a server face, a client face, or both.

>>> Order(after=("envelope",), before=("ratelimit",))
Order(after=('envelope',), before=('ratelimit',), alone=False)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol, TypeAlias, runtime_checkable

from flexmw.errors import ConfigError
from flexmw.kit.effects import Flow, Request

__all__ = ["API", "OLDEST_API", "Adopted", "ClientComponent", "Component", "Declared", "Order", "ServerComponent"]

API: Final = 1
"""The version of the component interface that this flexmw speaks."""

OLDEST_API: Final = 1
"""The oldest version that it still accepts: a window, so that a plugin need not follow every release."""


@dataclass(frozen=True, slots=True)
class Order:
    """Where a component belongs among others, by their names. ``after=("envelope",)`` means inside it, ``before``
    means outside. Names that are not in a stack are ignored. The client faces of flexmw ask for no order: each works in
    any, and their docstrings say which one is meant. ``alone``: another of its name around the same client would
    multiply what it does."""

    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    alone: bool = False

    def __post_init__(self) -> None:
        for side in ("after", "before"):
            names = getattr(self, side)
            if not (isinstance(names, tuple) and all(isinstance(name, str) for name in names)):
                raise ConfigError(f"Order({side}=...)", names, 'a tuple of component names, such as ("envelope",)')


class Declared(Protocol):
    """What a component's class says of its objects."""

    name: ClassVar[str]
    api: ClassVar[int]
    order: ClassVar[Order]


class Adopted(Protocol):
    """The same of an object whose class cannot say it: name and place came from whoever adopted that class."""

    @property
    def name(self) -> str: ...
    @property
    def order(self) -> Order: ...


Component: TypeAlias = Declared | Adopted


_Scope: TypeAlias = MutableMapping[str, Any]
_ASGIApp: TypeAlias = Callable[
    [_Scope, Callable[[], Awaitable[_Scope]], Callable[[_Scope], Awaitable[None]]], Awaitable[None]
]


@runtime_checkable
class ServerComponent(Protocol):
    """A component that wraps an ASGI app."""

    def asgi(self, app: _ASGIApp) -> _ASGIApp: ...


@runtime_checkable
class ClientComponent(Protocol):
    """A component that takes part in a client's calls."""

    def flow(self, request: Request) -> Flow: ...
