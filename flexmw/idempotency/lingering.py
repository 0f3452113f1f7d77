"""Linger: how long an execution goes on although nobody reads its response."""

from __future__ import annotations

from typing import Final

from flexmw.idempotency.core import Record
from flexmw.idempotency.plan import Plan
from flexmw.idempotency.recording import ResponseRecorder
from flexmw.idempotency.stores import LogStore

__all__ = ["SDK_LINGER", "show_interest", "wait_until_unread"]

SDK_LINGER: Final = 10.0
"""Seconds that an event stream of an SDK's call without a key goes on after its client has left. The SDK has no key by
which it could ask for the rest, and repeats a call only where it has not seen the head of the response."""


async def wait_until_unread(plan: Plan, recorder: ResponseRecorder, linger: float) -> None:
    """Wait until nobody has read a response for a while. Its first client has just left.

    :param linger: length of that while in seconds.
    """
    clock = plan.claims.clock
    left_at = clock.monotonic()
    while True:
        log = recorder.log
        read_at = left_at if log is None else max(left_at, log.wanted_at)
        rest = linger if log is not None and log.followers else read_at + linger - clock.monotonic()
        if rest <= 0:
            return
        await clock.asleep(rest)


async def show_interest(plan: Plan, name: str) -> None:
    """Let the execution of a key know, in this process or another process, that a request waits for its response.

    Raises what the store raises.

    :param name: the store key.
    """
    log = plan.logs.find(name)
    if log is not None:
        log.want()
        return
    store = plan.claims.store
    if isinstance(store, LogStore):
        held = await store.load(name)
        if held is not None:
            await store.read(name, Record.decode(held.entry).generation, 0, 0)
