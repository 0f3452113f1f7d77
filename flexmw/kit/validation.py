"""Validation of the arguments of a transport, when a client is wrapped and not at its first call.

>>> try:
...     check_fit("Transport", ("a retry",), None, object)
... except ConfigError as error:
...     print(error.option)
Transport(*components)
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from flexmw.errors import ConfigError

__all__ = ["check_alone", "check_fit", "check_library"]


def check_fit(owner: str, components: Sequence[Any], transport: Any, default: type) -> None:
    """Check the components and the inner transport of a transport.

    :param owner: the name of the transport class, for the message of an error.
    :param components: each one needs a ``flow`` method.
    :param transport: the inner transport; ``None`` for the default. It must come from the same library as ``default``
        and be blocking or async like it. A class that extends neither library's base classes is accepted unchecked.
    :param default: the class of the default inner transport.
    :raises ConfigError: with the argument that does not fit and what was expected.
    """
    for component in components:
        if isinstance(component, type) or not hasattr(component, "flow"):
            raise ConfigError(f"{owner}(*components)", component, "objects with a client side: a `flow` method")
    bases = _bases(type(transport))
    if bases and not bases & _bases(default):
        usual = f"{default.__module__.partition('.')[0]}.{default.__name__}()"
        raise ConfigError(
            f"{owner}(transport=...)", transport, f"a transport of the same library and kind, such as {usual}"
        )


def check_library(transport: Any, request: Any, default: type) -> None:
    """Check that a client of the same library has sent a request.

    A client fails with a bare ``AssertionError`` at the response of another library, when the request is executed.

    :param transport: the transport that was given to the client.
    :param default: the class of its default inner transport.
    :raises ConfigError: the request is one of the other library.
    """
    library = default.__module__.partition(".")[0]
    other = {"httpx": "httpx2", "httpx2": "httpx"}.get(library, "")
    # A program may import one library under the name of the other.
    own, foreign = (getattr(sys.modules.get(name), "Request", ()) for name in (library, other))
    if isinstance(request, foreign) and not isinstance(request, own):
        expected = f"a transport of {other}, as the client is: flexmw.{other}.{type(transport).__name__}(...)"
        raise ConfigError("Client(transport=...)", transport, expected)


def check_alone(components: Sequence[Any], inner: Sequence[Any] = ()) -> None:
    """Check that no name occurs twice on the way of a request, among the components whose ``order`` has ``alone``.

    :param inner: the components of all transports below. Two of these may share a name: a transport that chooses by the
        host has one below each choice. Each transport has checked those below itself.
    :raises ConfigError: with the names of these components.
    """
    own, below = _alone(components), _alone(inner)
    for name in own:
        if own.count(name) > 1 or name in below:
            expected = (
                f"one {name!r} around a client: a second one multiplies its attempts; a transport that only fetches "
                "tokens belongs in a client of its own: wrap_client(httpx.Client())"
            )
            raise ConfigError("components", [*own, *below], expected)


def _alone(components: Sequence[Any]) -> list[str]:
    return [component.name for component in components if getattr(getattr(component, "order", None), "alone", False)]


def _bases(cls: type) -> frozenset[type]:
    """The base transports of httpx and httpx2 that a class extends. They are compared by identity, because other
    libraries have classes of the same names."""
    loaded = [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]
    known = {getattr(module, kind, None) for module in loaded for kind in ("BaseTransport", "AsyncBaseTransport")}
    return frozenset(base for base in cls.__mro__ if base in known)
