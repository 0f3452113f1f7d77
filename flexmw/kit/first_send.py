"""The first send of a call without a generator, for components that seldom do more than send once.

Nearly every call is sent once, and its first response is returned. For such a call the generator of a flow, its effects
and the loop of a driver cost more than what the component decides. A component of the package may therefore have an
attribute ``_begin``: a function of the request that prepares the first send, or returns ``None`` for a call that must
be a flow from the beginning. The attribute is ``None`` where the options make every call such a one. The transport
makes the send and asks :meth:`FirstSend.finish` whether the response ends the call. In any other case the flow of the
call takes over: its first effect is the ``Send`` that has been made.

A transport uses ``_begin`` where no other component has something to do with the call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from flexmw.kit.chain import Sends, taken_over
from flexmw.kit.effects import Flow, Response

__all__ = ["Begin", "FirstSend", "begin_of", "rest_of"]


class FirstSend(Protocol):
    """A call whose first request is about to be sent."""

    @property
    def request(self) -> Any:
        """The request to send: a copy with extensions of its own."""
        ...

    def trace(self, event: str, details: Mapping[str, Any]) -> None:
        """Observe an event of a blocking transport: the ``trace`` extension of the request."""
        ...

    async def atrace(self, event: str, details: Mapping[str, Any]) -> None:
        """Observe an event of an async transport."""
        ...

    def finish(self, response: Response) -> bool:
        """Whether the response ends the call. If not, nothing has been decided yet."""
        ...

    def on_end(self, error: BaseException | None) -> None:
        """Called when the body of the response ends, as with :class:`flexmw.kit.effects.Follow`."""
        ...

    def flow(self) -> Flow:
        """The flow of the call. Its first effect is the ``Send`` of :attr:`request`."""
        ...


Begin = Callable[[Any], FirstSend | None]


def begin_of(component: Any) -> Begin | None:
    """The function ``_begin`` of a component; ``None`` without one, or where a subclass has a ``flow`` of its own."""
    for cls in type(component).__mro__:
        if "_begin" in vars(cls):
            begin: Begin | None = component._begin
            return begin
        if "flow" in vars(cls):
            return None
    return None


def rest_of(first: FirstSend, component: Sends, response: Response | None, error: BaseException | None) -> Flow:
    """The flow of a call from its first send on.

    :param response: what the send brought; ``None`` if it raised.
    :param error: what the send raised.
    """
    flow = first.flow()
    return taken_over(flow, next(flow), component, response, error)
