"""The interior of an app: what is inside the components that are installed in it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from starlette.types import Receive, Scope, Send

__all__ = ["Interior"]


class Interior:
    """The ASGI app that the innermost installed component wraps.

    :ivar app: what the framework would call without flexmw; ``None`` until Starlette has built it.
    :ivar installed_in: the app that the components are installed in.
    :ivar components: the components, outermost first.
    """

    def __init__(self, framework: Any, components: tuple[Any, ...]) -> None:
        self.installed_in = framework
        self.app: Any = None
        self.components = components

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # Not a coroutine: the component outside awaits what the framework's own app returns.
        awaitable: Awaitable[None] = self.app(scope, receive, send)
        return awaitable
