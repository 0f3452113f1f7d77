"""What others have written, as a component: any ASGI middleware, any transport wrapper of httpx or httpx2.

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
from flexmw.kit.options import option

__all__ = ["AdoptedMiddleware", "AdoptedTransport", "adopt"]

_METHODS: Final = {False: "handle_request", True: "handle_async_request"}
_BASES: Final = frozenset({"BaseTransport", "AsyncBaseTransport"})
_INNER: Final = ("transport", "wrapped_transport", "next_transport", "inner_transport", "wrapped", "inner")


@dataclass(frozen=True, kw_only=True)
class _Adopted:
    """``dataclasses.replace(adopted, name=..., order=...)`` gives it another name or a place among others."""

    api: ClassVar[int] = API

    wraps: Callable[..., Any]
    options: Mapping[str, Any] = option(secret=True)
    name: str
    order: Order = field(default_factory=Order)


@dataclass(frozen=True, kw_only=True)
class AdoptedMiddleware(_Adopted):
    """An ASGI middleware class, or a function that takes an app and returns one."""

    def asgi(self, app: ASGIApp) -> ASGIApp:
        """The server face: the app inside a middleware of its own."""
        wrapped: ASGIApp = self.wraps(app, **self.options)
        return wrapped


@dataclass(frozen=True, kw_only=True)
class AdoptedTransport(_Adopted):
    """A transport that is made around another one. ``inner`` is the parameter that takes the other one."""

    inner: str

    def around(self, transport: Any) -> Any:
        """The wrapper around a transport: components that are further inward, down to the network.

        :raises ConfigError: it was made for the other library, or for the other kind of client.
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
        """A transport is no flow: ``wrap_client`` and the transports of flexmw build it in by :meth:`around`.

        :raises ConfigError: always.
        """
        raise ConfigError(f"component {self.name!r}", self.wraps, "wrap_client() or a flexmw transport to run it")


def adopt(cls: Callable[..., Any], /, **options: Any) -> AdoptedMiddleware | AdoptedTransport:
    """A component out of a class that knows nothing of flexmw.

    Takes an ASGI middleware (first parameter: the app; a function that returns an app will do) or a transport wrapper
    of httpx or httpx2 (one that takes the transport it wraps). ``options`` are handed to it with every app or
    transport that is wrapped. Components further inward than an adopted transport run inside it; what they tell is
    not heard by those further outward.

    :raises ConfigError: it is neither, or does not take these options.
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
    first = next((each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)), None)
    if first is None or (isinstance(cls, type) and "__call__" not in dir(cls)):
        raise ConfigError(
            label,
            cls,
            "an ASGI middleware, made as Class(app, **options) and called as (scope, receive, send), "
            "or a transport with `handle_request` or `handle_async_request`",
        )
    return first.name


def _inner(cls: Callable[..., Any], parameters: list[inspect.Parameter], label: str) -> str:
    names = [each.name for each in parameters]
    hinted = [each.name for each in parameters if "Transport" in str(each.annotation)]
    for name in (*_INNER, *hinted):
        if name in names:
            return name
    raise ConfigError(label, cls, f"a transport that wraps another, given to it as one of: {', '.join(_INNER)}")


def _fit(
    cls: Callable[..., Any], parameters: list[inspect.Parameter], inner: str, options: Mapping[str, Any], label: str
) -> None:
    named = [each.name for each in parameters if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)]
    valid = sorted(name for name in named if name != inner)
    open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters)
    for name in options:
        if name == inner:
            raise ConfigError(f"{label}: option", name, "it left out: flexmw hands it in")
        if name not in valid and not open_ended:
            raise ConfigError(f"{label}: option", name, f"one of {', '.join(valid)}" if valid else "no options")
    given = {inner, *options}
    needed = [
        each.name
        for each in parameters
        if each.default is each.empty
        and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
        and each.name not in given
    ]
    if needed:
        raise ConfigError(f"{label}: options", sorted(options), f"also {', '.join(needed)}")


def _bases(cls: Any) -> frozenset[type]:
    """The base transports of httpx or httpx2 that a class stands on."""
    return frozenset(base for base in getattr(cls, "__mro__", ()) if base.__name__ in _BASES)


def _library(base: type) -> str:
    """Where a base class comes from, by identity: SDKs give what they re-export a module name of their own."""
    homes = (name for name in ("httpx2", "httpx") if getattr(sys.modules.get(name), base.__name__, None) is base)
    return next(homes, base.__module__)
