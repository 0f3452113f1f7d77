"""The component interface: an object with an ``asgi`` method, a ``flow`` method, or both.

``asgi(app)`` wraps an ASGI app; ``flow(request)`` takes part in the calls of a client. A component is, at best, a
frozen dataclass whose fields are its options.

>>> Order(after=("envelope",), before=("ratelimit",))
Order(after=('envelope',), before=('ratelimit',), alone=False, needs=())
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol, TypeAlias, runtime_checkable

from flexmw.errors import ConfigError
from flexmw.kit.effects import Flow, Request

__all__ = ["API", "OLDEST_API", "Adopted", "ClientComponent", "Component", "Declared", "Order", "ServerComponent"]

API: Final = 1
"""The version of the component interface that this flexmw implements."""

OLDEST_API: Final = 1
"""The oldest version that this flexmw accepts. A plugin keeps working while its version lies between the two."""


@dataclass(frozen=True, slots=True)
class Order:
    """The place of a component among others, which are given by their names. A name that is not in the stack is
    ignored.

    The components of flexmw state an order for servers only. Their client sides work in any order; their docstrings
    recommend one.

    :param after: components that have to be outside this one: ``after=("envelope",)`` means inside Envelope.
    :param before: components that have to be inside this one.
    :param alone: a client may have only one component of this name, because two would multiply their effect.
    :param needs: components without which this one has no effect. ``wrap_client`` and ``wrap_app`` refuse a stack
        without them; a transport or a middleware that is made by hand is not checked.
    :raises ConfigError: ``after``, ``before`` or ``needs`` is not a tuple of names.
    """

    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    alone: bool = False
    needs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for side in ("after", "before", "needs"):
            names = getattr(self, side)
            if not (isinstance(names, tuple) and all(isinstance(name, str) for name in names)):
                raise ConfigError(f"Order({side}=...)", names, 'a tuple of component names, such as ("envelope",)')


# One protocol with properties would do for mypy. Pyright does not accept a class variable where a protocol has a
# property, nor an attribute of the object where it has a class variable: hence one protocol for each way.


class Declared(Protocol):
    """A component whose class states its name, API version and order. The name is the one in configuration files, in
    ``Order`` and in error messages; that of a plugin begins with its vendor."""

    name: ClassVar[str]
    api: ClassVar[int]
    order: ClassVar[Order]


class Adopted(Protocol):
    """A component whose name and order are attributes of the object, like the result of :func:`flexmw.adopt`."""

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
    """A component that takes part in the calls of a client."""

    def flow(self, request: Request) -> Flow: ...
