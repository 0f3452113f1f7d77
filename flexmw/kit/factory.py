"""Components in the place of a middleware class: what frameworks call with the app to wrap.

Starlette calls what ``add_middleware`` was given as ``middleware(app, *args, **options)``, once for an app. Litestar
calls each item of ``middleware=[...]`` as ``middleware(app=app)``, once for each route. A component is such a callable,
and its class is one for Starlette:

>>> from starlette.applications import Starlette
>>> from flexmw import Envelope, RateLimit
>>> app = Starlette()
>>> app.add_middleware(Envelope())
>>> app.add_middleware(RateLimit, "10/minute", headers=("ietf",))

A class in Litestar's list is refused: each route would get an object of its own, with counters of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from flexmw.errors import ConfigError

__all__ = ["ClientMiddleware", "ServerMiddleware"]


class _Signature:
    """The signature of a class is that of ``__init__``. ``inspect`` would take that of ``__new__``."""

    def __get__(self, instance: object | None, owner: Any) -> inspect.Signature | None:
        if instance is not None:
            return None
        signature = inspect.signature(owner.__init__)
        _, *parameters = signature.parameters.values()
        return signature.replace(parameters=parameters)


class _Factory:
    """``Class(app, ...)`` is ``Class(...)(app)``. Type checkers do not see it: they advise ``Class(...)``."""

    __slots__ = ()

    if not TYPE_CHECKING:
        __signature__ = _Signature()

        def __new__(cls, *values: Any, **options: Any) -> Any:
            if values and callable(values[0]):
                return cls(*values[1:], **options)(values[0])
            if callable(options.get("app")):
                made = f"flexmw.{cls.__name__}(...)"
                raise ConfigError(
                    f"{cls.__name__}(app=...)",
                    options["app"],
                    f"an object, which all routes share: middleware=[{made}], or flexmw.install(app, {made})",
                )
            return super().__new__(cls)


class ServerMiddleware(_Factory):
    """The base class of a component with a server side."""

    __slots__ = ()

    # Frameworks type scope, receive and send each in their own way.
    def __call__(self, app: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """Wrap an app: a component is a middleware factory for a framework's own ``add_middleware``."""
        wrapped: Callable[..., Awaitable[None]] = cast("Any", self).asgi(app)
        return wrapped


class ClientMiddleware(_Factory):
    """The base class of a component that has only a client side."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def __call__(self, app: object) -> Any:
            """Refuse an app.

            :raises ConfigError: always.
            """
            raise ConfigError(
                f"component {self.name!r}",
                self,
                "one with a server side; this one has only a client side: flexmw.wrap_client(client, ...)",
            )
