"""Write to the claim of a running execution: the heartbeats while the app runs, and the outcome at its end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from flexmw.idempotency.claim import Claim, Claims
from flexmw.idempotency.completion import Completion
from flexmw.idempotency.stores.guarded import guarded
from flexmw.kit.exchange import Exchange

__all__ = ["keep_lease", "persist_outcome", "write_outcome"]

_BEATS: Final = 3.0
"""Heartbeats in one lease. Two of them may be lost."""

_LONGEST_BEAT_PAUSE: Final = 1.0
"""Seconds after which a heartbeat that the store did not take is tried again."""

_FIRST_PAUSE: Final = 0.1
"""Seconds after which a failed write of the outcome is tried again. The pause doubles with each attempt."""


async def keep_lease(claim: Claim, claims: Claims, *, is_over: Callable[[], bool], stop: Callable[[], object]) -> None:
    """Renew the lease until the execution is over, or another attempt has taken the key over.

    :param is_over: whether the outcome of the execution is written.
    :param stop: called when an operator has asked for the end of the execution.
    """
    clock, lease = claims.clock, claims.lease
    pause = lease / _BEATS
    while not is_over():
        await clock.asleep(pause)
        pause = min(lease / _BEATS, _LONGEST_BEAT_PAUSE)
        with suppress(Exception):
            if not await claim.renew():
                return
            if claim.is_stopping:
                stop()
            pause = lease / _BEATS


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
        pause = min(pause * 2, lease / _BEATS)
