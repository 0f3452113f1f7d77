"""Adapters: use an ASGI middleware class, or a transport wrapper of httpx or httpx2, as a component.

>>> from starlette.middleware.cors import CORSMiddleware
>>> cors = adopt(CORSMiddleware, allow_origins=["*"])
>>> cors.name
'starlette.CORSMiddleware'
>>> adopt(CORSMiddleware, allow_origin=["*"])
Traceback (most recent call last):
    ...
flexmw.errors.ConfigError: adopt(CORSMiddleware): option = 'allow_origin': expected one of allow_credentials, \
allow_headers, allow_methods, allow_origin_regex, allow_origins, allow_private_network, expose_headers, max_age
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from starlette.types import ASGIApp

from flexmw.errors import ConfigError
from flexmw.kit.component import API, Order
from flexmw.kit.effects import Flow, Request
from flexmw.kit.factory import ServerMiddleware, middleware_factory
from flexmw.kit.options import option

__all__ = ["AdoptedMiddleware", "AdoptedTransport", "adopt"]

_METHODS: Final = {False: "handle_request", True: "handle_async_request"}
_BASES: Final = frozenset({"BaseTransport", "AsyncBaseTransport"})
_INNER: Final = ("transport", "wrapped_transport", "next_transport", "inner_transport", "wrapped", "inner")


@dataclass(frozen=True, kw_only=True)
class _Adopted:
    """``dataclasses.replace(adopted, name=..., order=...)`` changes the name of the component and its place among
    others."""

    api: ClassVar[int] = API

    wraps: Callable[..., Any]
    options: Mapping[str, Any] = option(secret=True)
    name: str
    order: Order = field(default_factory=Order)


@dataclass(frozen=True, kw_only=True)
class AdoptedMiddleware(ServerMiddleware, _Adopted):
    """An ASGI middleware class, or a function that takes an app and returns one."""

    @middleware_factory
    def asgi(self, app: ASGIApp) -> ASGIApp:
        """Wrap the app in a new middleware object."""
        middleware: ASGIApp = self.wraps(app, **self.options)
        return middleware


@dataclass(frozen=True, kw_only=True)
class AdoptedTransport(_Adopted):
    """A transport class that wraps another transport. ``inner`` is the name of the parameter for the other one."""

    inner: str

    def around(self, transport: Any) -> Any:
        """Wrap a transport, which holds the components further inward and the network.

        :raises ConfigError: the class was written for the other library, or for the other kind of client (sync, async).
        """
        ours = _bases(type(transport))
        theirs = _bases(self.wraps)
        asynchronous = hasattr(transport, _METHODS[True])
        if not callable(getattr(self.wraps, _METHODS[asynchronous], None)) or (theirs and not theirs & ours):
            wanted = " or ".join(sorted(f"{_library(base)}.{base.__name__}" for base in ours))
            raise ConfigError(
                f"component {self.name!r}",
                self.wraps,
                f"a transport for this client: a subclass of {wanted} with `{_METHODS[asynchronous]}`",
            )
        return self.wraps(**self.options, **{self.inner: transport})

    def flow(self, request: Request) -> Flow:
        """Not supported: ``wrap_client`` and the transports of flexmw call :meth:`around` instead.

        :raises ConfigError: always.
        """
        raise ConfigError(f"component {self.name!r}", self.wraps, "wrap_client() or a flexmw transport to run it")


def adopt(cls: Callable[..., Any], /, **options: Any) -> AdoptedMiddleware | AdoptedTransport:
    """Make a component of a class that was written without flexmw.

    Components further inward than an adopted transport run inside it. Their events do not reach the components further
    outward.

    :param cls: an ASGI middleware class, or a function that takes an app and returns one; or a transport class of httpx
        or httpx2 with a parameter for the transport that it wraps.
    :param options: keyword arguments of the class, used for every app or transport that is wrapped.
    :raises ConfigError: ``cls`` is neither of the two, or does not take these options.
    """
    if not hasattr(cls, "__name__"):
        kwargs = "flexmw.adopt(m.cls, **m.kwargs)" if type(cls).__name__ == "Middleware" else "adopt(Class, **options)"
        raise ConfigError("adopt(cls)", cls, f"a middleware or transport class, not an object: {kwargs}")
    label = f"adopt({cls.__name__})"
    is_transport = any(hasattr(cls, method) for method in _METHODS.values())
    parameters = _parameters(cls, label)
    inner = _inner(cls, parameters, label) if is_transport else _app(cls, parameters, label)
    _fit(cls, parameters, inner, options, label)
    name = f"{cls.__module__.partition('.')[0]}.{cls.__name__}"
    if is_transport:
        return AdoptedTransport(wraps=cls, options=options, name=name, inner=inner)
    return AdoptedMiddleware(wraps=cls, options=options, name=name)


def _parameters(cls: Callable[..., Any], label: str) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(cls).parameters.values())
    except (TypeError, ValueError) as error:
        raise ConfigError(label, cls, "a class whose parameters can be read") from error


def _app(cls: Callable[..., Any], parameters: list[inspect.Parameter], label: str) -> str:
    first = next(
        (
            parameter
            for parameter in parameters
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ),
        None,
    )
    if first is None or (isinstance(cls, type) and "__call__" not in dir(cls)):
        raise ConfigError(
            label,
            cls,
            "an ASGI middleware, made as Class(app, **options) and called as (scope, receive, send), "
            "or a transport with `handle_request` or `handle_async_request`",
        )
    return first.name


def _inner(cls: Callable[..., Any], parameters: list[inspect.Parameter], label: str) -> str:
    names = [parameter.name for parameter in parameters]
    hinted = [parameter.name for parameter in parameters if "Transport" in str(parameter.annotation)]
    for name in (*_INNER, *hinted):
        if name in names:
            return name
    raise ConfigError(label, cls, f"a transport that wraps another, given to it as one of: {', '.join(_INNER)}")


def _fit(
    cls: Callable[..., Any], parameters: list[inspect.Parameter], inner: str, options: Mapping[str, Any], label: str
) -> None:
    named = [
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    valid = sorted(name for name in named if name != inner)
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    for name in options:
        if name == inner:
            raise ConfigError(
                f"{label}: option", name, f"no option {name!r}: flexmw gives the class the inner app or transport"
            )
        if name not in valid and not open_ended:
            raise ConfigError(f"{label}: option", name, f"one of {', '.join(valid)}" if valid else "no options")
    given = {inner, *options}
    needed = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        and parameter.name not in given
    ]
    if needed:
        raise ConfigError(f"{label}: options", sorted(options), f"also {', '.join(needed)}")


def _bases(cls: Any) -> frozenset[type]:
    """The base transport classes of httpx or httpx2 among the ancestors of a class."""
    return frozenset(base for base in getattr(cls, "__mro__", ()) if base.__name__ in _BASES)


def _library(base: type) -> str:
    """The library of a base class, found by identity: SDKs re-export classes under a module name of their own."""
    names = (name for name in ("httpx2", "httpx") if getattr(sys.modules.get(name), base.__name__, None) is base)
    return next(names, base.__module__)
