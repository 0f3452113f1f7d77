"""What can stand around a transport, and inside one: said when a client is wrapped, not at its first call.

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

__all__ = ["check_alone", "check_fit"]


def check_fit(owner: str, components: Sequence[Any], transport: Any, default: type) -> None:
    """Components have a client face; the transport inside is of the library and kind of ``default``, or of neither
    library: such a one is taken at its word.

    :raises ConfigError: naming what does not fit and what would.
    """
    for component in components:
        if isinstance(component, type) or not hasattr(component, "flow"):
            raise ConfigError(f"{owner}(*components)", component, "objects with a client face: a `flow` method")
    theirs = _bases(type(transport))
    if theirs and not theirs & _bases(default):
        usual = f"{default.__module__.partition('.')[0]}.{default.__name__}()"
        raise ConfigError(
            f"{owner}(transport=...)", transport, f"a transport of the same library and kind, such as {usual}"
        )


def check_alone(components: Sequence[Any]) -> None:
    """No two of a name whose order says that it wants to be alone.

    :raises ConfigError: naming them.
    """
    names = [each.name for each in components if getattr(getattr(each, "order", None), "alone", False)]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                "components", names, f"one {name!r} around a client: a second one multiplies its attempts"
            )


def _bases(cls: type) -> frozenset[type]:
    """The base transports of httpx and httpx2 that a class stands on; by identity, others have classes of that name."""
    loaded = [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]
    known = {getattr(module, kind, None) for module in loaded for kind in ("BaseTransport", "AsyncBaseTransport")}
    return frozenset(base for base in cls.__mro__ if base in known)
