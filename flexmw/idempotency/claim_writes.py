"""Write the outcome of an execution to its claim."""

from __future__ import annotations

from typing import Final

from flexmw.idempotency.claim import Claim, Claims
from flexmw.idempotency.completion import Completion
from flexmw.idempotency.heartbeats import BEATS
from flexmw.idempotency.stores.guarded import guarded
from flexmw.kit.exchange import Exchange

__all__ = ["persist_outcome", "write_outcome"]

_FIRST_PAUSE: Final = 0.1
"""Seconds after which a failed write of the outcome is tried again. The pause doubles with each attempt."""


async def write_outcome(claim: Claim, completion: Completion, exchange: Exchange) -> bool:
    """Write the outcome to the key once. Returns whether the write succeeded; a failure is emitted."""
    try:
        with guarded(claim.store):
            if completion.released:
                await claim.release()
            else:
                await claim.complete(completion.response)
    except Exception as failure:
        exchange.emit("flexmw.idempotency.store_failed", {"exception": failure})
        return False
    return True


async def persist_outcome(
    claim: Claim, claims: Claims, completion: Completion, exchange: Exchange, *, patience: float
) -> None:
    """Write the outcome to the key, and try again while the store does not respond.

    :param patience: seconds after which no further write is tried.
    """
    clock, lease = claims.clock, claims.lease
    deadline, pause = clock.monotonic() + patience, _FIRST_PAUSE
    while not await write_outcome(claim, completion, exchange) and clock.monotonic() < deadline:
        await clock.asleep(pause)
        pause = min(pause * 2, lease / BEATS)
