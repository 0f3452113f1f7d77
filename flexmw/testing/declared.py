"""Parts that both conformance checks use: the component's declaration, detection of blocking calls, the report.

>>> import flexmw
>>> list(declaration(flexmw.Retry()))
[]
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from flexmw.errors import ConfigError
from flexmw.kit.component import API, OLDEST_API, Order
from flexmw.registry import BUILT_IN, unknown_in_order

__all__ = ["blocking_calls", "declaration", "report", "require_side"]

_BLOCKING: Final = {
    ("time", "sleep"): "time.sleep",
    ("socket", "connect"): "socket.connect",
    ("_socket", "getaddrinfo"): "socket.getaddrinfo",
}


def declaration(component: Any) -> Iterator[str]:
    """Yield the faults of a component's ``name``, ``api`` and ``order``."""
    name, api, order = (getattr(component, attribute, None) for attribute in ("name", "api", "order"))
    if not (isinstance(name, str) and name):
        yield f"`name` is {name!r}: declare `name: ClassVar[str]`"
    elif "." not in name and name not in BUILT_IN:
        yield f"`name` is {name!r}: bare names are flexmw's own, call it 'vendor.{name}'"
    if not isinstance(api, int) or isinstance(api, bool) or not OLDEST_API <= api <= API:
        yield f"`api` is {api!r}: declare `api: ClassVar[int] = {API}`"
    if not isinstance(order, Order):
        yield f"`order` is {order!r}: declare `order: ClassVar[flexmw.Order] = flexmw.Order()`"
    else:
        yield from unknown_in_order(component)
    try:
        component.name = name
    except (AttributeError, TypeError):
        return
    yield "its attributes can be set: a component serves many requests at once, make it a frozen dataclass"


def require_side(component: Any, method: str, side: str) -> None:
    """Refuse a component without the side that is to be checked.

    :param method: the method of that side, ``asgi`` or ``flow``.
    :param side: ``server`` or ``client``.
    :raises ConfigError: the component is a class, or has no such method.
    """
    if isinstance(component, type):
        raise ConfigError("component", component, f"an object: {component.__name__}(...)")
    if not callable(getattr(component, method, None)):
        raise ConfigError("component", component, f"a component with a {side} side: a method `{method}`")


def report(component: Any, faults: Iterable[str]) -> None:
    """Raise an ``AssertionError`` with one line per fault, if there are faults."""
    lines = list(dict.fromkeys(faults))
    if lines:
        name = getattr(component, "name", type(component).__name__)
        raise AssertionError("\n".join([f"component {name!r} does not conform:", *(f"  - {line}" for line in lines)]))


@contextmanager
def blocking_calls() -> Generator[list[str]]:
    """Collect the calls in this thread that would block an event loop, while the block runs."""
    calls: list[str] = []
    before = sys.getprofile()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call":
            owner = getattr(argument, "__self__", None)
            module = getattr(argument, "__module__", None) or type(owner).__module__
            blocking = _BLOCKING.get((module, getattr(argument, "__name__", "")))
            if blocking is not None and blocking not in calls:
                calls.append(blocking)

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(before)
