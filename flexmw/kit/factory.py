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
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from flexmw.errors import ConfigError

__all__ = ["ClientMiddleware", "ServerMiddleware", "middleware_factory"]

MethodT = TypeVar("MethodT", bound=Callable[..., Any])


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
                component = cls(*values[1:], **options)
                return getattr(component, "asgi", component)(values[0])
            if callable(options.get("app")):
                made = f"flexmw.{cls.__name__}(...)"
                raise ConfigError(
                    f"{cls.__name__}(app=...)",
                    options["app"],
                    f"an object, which all routes share: middleware=[{made}], or flexmw.install(app, {made})",
                )
            return super().__new__(cls)


class _FactoryMethod:
    """The method ``asgi``, which is a middleware factory by itself: ``app.add_middleware(component.asgi)``.

    Sentry's integration assigns ``__call__`` to whatever is added. A bound method refuses that, a partial does not.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, component: object | None, owner: type) -> Callable[..., Any]:
        return self._method if component is None else partial(self._method, component)


def middleware_factory(method: MethodT) -> MethodT:
    """A decorator for the method ``asgi`` of a component."""
    return cast("MethodT", _FactoryMethod(method))


class ServerMiddleware(_Factory):
    """The base class of a component with a server side."""

    __slots__ = ()

    # Frameworks type scope, receive and send each in their own way.
    def __call__(self, app: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """Wrap an app: a component is a middleware factory for a framework's own ``add_middleware``."""
        wrapped: Callable[..., Awaitable[None]] = cast("Any", self).asgi(app)
        return wrapped

    # Sentry's integrations replace `__call__` of the class and of the object that is added, by a coroutine function of
    # (app, scope, receive, send) for spans of middleware. A frozen object refuses that, and a class whose `__call__` is
    # replaced wraps no app any more. They leave alone what has the name of their own replacement. Tried with a
    # `__setattr__` that ignores the name: an assignment to the class does not pass it.
    __call__.__name__ = "_create_span_call"


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

        __call__.__name__ = "_create_span_call"  # as that of ServerMiddleware
