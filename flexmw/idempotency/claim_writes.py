"""Write the outcome of an execution to its claim."""

from __future__ import annotations

from typing import Final

import anyio

from flexmw.idempotency.claim import Claim, Claims
from flexmw.idempotency.completion import Completion
from flexmw.idempotency.heartbeats import BEATS
from flexmw.idempotency.sdk_calls import SdkAttempt
from flexmw.idempotency.stores.guarded import guarded
from flexmw.kit import time_limit
from flexmw.kit.exchange import Exchange
from flexmw.kit.loop_time import current_time

__all__ = ["conclude_attempt", "persist_in_time", "persist_outcome", "write_outcome"]

_FIRST_PAUSE: Final = 0.1
"""Seconds after which a failed write of the outcome is tried again. The pause doubles with each attempt."""

_LONGEST_PAUSE: Final = 1.0
_CLOCK_SECONDS: Final = 2.0
"""About the time that a request has, for the clock of the event loop."""


async def write_outcome(
    claim: Claim, completion: Completion, exchange: Exchange, attempt: SdkAttempt | None = None
) -> float | None:
    """Write the outcome to the key once.

    :param attempt: the call of an SDK that the execution belongs to, if its client is there to get the response.
    :returns: ``None``: the outcome is written. Otherwise the seconds that are left of the time that a request has to
        store its response; the failure is emitted.
    """
    with guarded(claim.claims.store):
        try:
            if completion.released:
                await claim.release()
            elif attempt is not None:
                await attempt.complete(claim, completion.response)
            else:
                await claim.complete(completion.response)
        except Exception as failure:
            exchange.emit("flexmw.idempotency.store_failed", {"exception": failure})
            return max(0.0, time_limit.remaining())
    return None


async def persist_outcome(
    claim: Claim, claims: Claims, completion: Completion, exchange: Exchange, *, patience: float
) -> bool:
    """Write the outcome to the key, and try again while the store does not respond.

    :param patience: seconds after which no further write is begun.
    :returns: whether the outcome is written.
    """
    clock, pause = claims.clock, _FIRST_PAUSE
    deadline = clock.monotonic() + patience
    while await write_outcome(claim, completion, exchange) is not None:
        if clock.monotonic() + pause > deadline:
            return False
        await clock.asleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE, claims.lease / BEATS)
    return True


async def persist_in_time(
    claim: Claim, claims: Claims, completion: Completion, exchange: Exchange, *, seconds: float
) -> bool:
    """:func:`persist_outcome` for a request that waits for it.

    A write that is cancelled, because the event loop ends for example, is carried out again before the cancellation
    goes on: the key would otherwise become ``unknown``, although its outcome is known.

    :param seconds: the time that the request has, operations that do not end included.
    """
    if seconds <= 0.0:
        return False
    with time_limit.within(seconds, current_time(_CLOCK_SECONDS)):
        try:
            return await persist_outcome(claim, claims, completion, exchange, patience=seconds)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await write_outcome(claim, completion, exchange)
            raise


async def conclude_attempt(attempt: SdkAttempt, completion: Completion | None, *, is_gone: bool) -> None:
    """Record for later attempts of an SDK's call how this one has ended.

    :param completion: how the execution has ended; ``None`` where it was cut off.
    :param is_gone: the client has not got its whole response.
    """
    status, refused = (0, False) if completion is None else (completion.response.status, completion.released)
    await attempt.conclude(status, refused=refused, is_gone=is_gone)
