"""Continuations: requests that only ask for the rest of a response. They are no new requests.

A request with ``Idempotent-Stream`` that an Idempotency further inside protects never runs the app. Its header alone
proves nothing, so the Idempotency itself is asked. Such a request takes no slot, no tokens and none of the caller's
requests. It is counted in a lane of its own, with the caller's rates, so that asking for keys that do not exist has a
limit; what it was charged there is given back as soon as the response that it asks for is sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from flexmw.contract.idempotent_stream import STREAM
from flexmw.kit.asgi import ASGIApp, Message, Scope, Send
from flexmw.kit.exchange import Exchange
from flexmw.kit.paths import wrapped_apps
from flexmw.ratelimit.backend import Backend
from flexmw.ratelimit.core import REQUESTS, Check
from flexmw.ratelimit.rates import Rates

__all__ = ["STREAM_FIELD", "ContinuationLane", "giving_back", "lane_of"]

STREAM_FIELD: Final = STREAM.encode()
"""The name of the field, as ASGI has it. Most requests do not have it, so the caller looks first."""

_RESULT: Final = "flexmw.idempotency.result"
_CONFIRMED: Final = "attached"

Continues = Callable[[Scope], Awaitable[bool]]


class ContinuationLane:
    """Recognises the continuations of one app, and what they are charged.

    :param continues: whether a request never runs the app, because it only continues a response.
    """

    __slots__ = ("_continues",)

    def __init__(self, continues: Continues) -> None:
        self._continues = continues

    async def takes(self, scope: Scope) -> bool:
        """Whether a request that has the field is a continuation."""
        return scope["type"] == "http" and await self._continues(scope)

    def check(self, digest: str, rates: Rates) -> Check:
        """The charge of one continuation of a caller: counted apart from the caller's requests."""
        rates = tuple(rate for rate in rates if rate.unit == REQUESTS)
        return Check(f"{digest}-continuations", rates, (1,) * len(rates))


def lane_of(app: ASGIApp) -> ContinuationLane | None:
    """The lane of an app; ``None`` if no layer that it wraps continues responses."""
    layers: list[Any] = [layer for layer in wrapped_apps(app) if hasattr(layer, "continues")]
    return ContinuationLane(layers[0].continues) if layers else None


def giving_back(send: Send, exchange: Exchange, backend: Backend, check: Check, *, degraded: bool) -> Send:
    """A ``send`` that gives the charge of a continuation back when the response that it asks for begins."""

    async def send_and_give_back(message: Message) -> None:
        if message["type"] == "http.response.start" and exchange.facts.get(_RESULT) == _CONFIRMED:
            await backend.refund(check, 0, degraded=degraded)
        await send(message)

    return send_and_give_back
