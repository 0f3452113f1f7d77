"""Write the outcome of an execution to its claim.

A store may take all writes but a large one: a managed redis bounds a value, a cloud store an item, SQLite a blob, and a
slow network what fits into ``store_timeout``. Such a write fails each time. The outcome is then stored without the body
of the response, as that of a response above ``max_body``: the key would otherwise become ``unknown``.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final, NamedTuple

import anyio

from flexmw.idempotency.claim import Claim, Claims
from flexmw.idempotency.completion import Completion
from flexmw.idempotency.heartbeats import BEATS
from flexmw.idempotency.sdk_calls import SdkAttempt
from flexmw.idempotency.stores import Full
from flexmw.idempotency.stores.guarded import guarded
from flexmw.kit import time_limit
from flexmw.kit.clock import SYSTEM
from flexmw.kit.exchange import Exchange
from flexmw.kit.log_limit import LogLimit
from flexmw.kit.loop_time import current_time
from flexmw.kit.redis_errors import code_of

__all__ = ["Unwritten", "conclude_attempt", "persist_in_time", "persist_outcome", "write_outcome"]

_FIRST_PAUSE: Final = 0.1
"""Seconds after which a failed write of the outcome is tried again. The pause doubles with each attempt."""

_LONGEST_PAUSE: Final = 1.0
_CLOCK_SECONDS: Final = 2.0
"""About the time that a request has, for the clock of the event loop."""

_LARGE_BYTES: Final = 65_536
"""A store that takes records takes a body of this size."""

_MAX_REFUSALS: Final = 3
"""So often the store refuses a large response, and renews the lease of the key at once after that."""

_MAX_LOSSES: Final = 8
"""The same where the connection was lost or the time was over: all large writes share a connection, which a server
that refuses another one of them ends."""

_SQLITE_FULL: Final = 13
"""The primary code of SQLite's error that the disk is full."""

_LOGGER: Final = logging.getLogger("flexmw.idempotency")
_lines: Final = LogLimit(burst=5, per_second=1 / 60, monotonic=SYSTEM.monotonic)


class Unwritten(NamedTuple):
    """An outcome that the store has not taken.

    :param failure: what the store has raised. It is emitted.
    :param seconds: what is left of the time that a request has to store its response.
    """

    failure: Exception
    seconds: float


async def write_outcome(
    claim: Claim, completion: Completion, exchange: Exchange, attempt: SdkAttempt | None = None
) -> Unwritten | None:
    """Write the outcome to the key once. Returns ``None`` where it is written.

    :param attempt: the call of an SDK that the execution belongs to, if its client is there to get the response.
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
            return Unwritten(failure, max(0.0, time_limit.remaining()))
        return None


async def persist_outcome(
    claim: Claim, claims: Claims, completion: Completion, exchange: Exchange, *, patience: float
) -> bool:
    """Write the outcome to the key, and try again while the store does not respond.

    A large response that the store does not take while it takes other writes is stored without its body, at the latest
    after a lease. A store that is full may have room later, so it is asked for that long.

    :param patience: seconds after which no further write is begun.
    :returns: whether the outcome is written.
    """
    clock, pause, refusals = claims.clock, _FIRST_PAUSE, 0
    deadline = clock.monotonic() + patience
    while True:
        unwritten = await write_outcome(claim, completion, exchange)
        if unwritten is None:
            return True
        failure = unwritten.failure
        is_last = clock.monotonic() + pause > deadline
        if _is_large(completion) and await _takes_others(claim):
            refusals += 1
            is_over = is_last and patience >= claims.lease
            if is_over or (refusals >= _patience_with(failure) and not _is_full(failure)):
                if await _is_stored(claim):
                    return True
                _leave_body_out(completion, failure)
                continue
        if is_last:
            return False
        await clock.asleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE, claims.lease / BEATS)


def _is_large(completion: Completion) -> bool:
    body = completion.response.body
    return not completion.released and body is not None and len(body) > _LARGE_BYTES


async def _takes_others(claim: Claim) -> bool:
    """Whether the store takes a small write of the same key: the renewal of its lease."""
    try:
        return await claim.renew()
    except Exception:
        return False


async def _is_stored(claim: Claim) -> bool:
    """Whether the store has taken the outcome, and only its replies were lost. Replays have the response by then."""
    try:
        return await claim.is_complete()
    except Exception:  # nor can a replay read what cannot be read now
        return False


def _patience_with(failure: Exception) -> int:
    """How many failures of this kind say that the response is too large."""
    names = {cls.__name__ for cls in type(failure).__mro__}  # redis-py's classes are not those of Python
    return _MAX_LOSSES if names & {"ConnectionError", "TimeoutError"} else _MAX_REFUSALS


def _is_full(failure: Exception) -> bool:
    """Whether the store may have room later."""
    sqlite_code = getattr(failure, "sqlite_errorcode", 0) & 0xFF
    return isinstance(failure, Full) or sqlite_code == _SQLITE_FULL or code_of(failure) in ("OOM", "MISCONF")


def _leave_body_out(completion: Completion, failure: Exception) -> None:
    """Store the outcome without the body of its response from now on, and log it."""
    completion.response = replace(completion.response, body=None)
    if (left_out := _lines.admit()) is not None:
        _LOGGER.warning(
            "The store does not take a response of %d bytes (%s), while it takes smaller writes: the outcome is stored "
            "without the response, and a repetition of the request gets 409 idempotency_answer_not_kept. Set max_body "
            "to what the store takes.%s",
            completion.response.size,
            type(failure).__name__,
            left_out,
        )


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
