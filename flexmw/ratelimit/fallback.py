"""A store over a network that may fail: a time limit, a circuit breaker, and a decision without the store."""

from __future__ import annotations

import logging
import socket
from asyncio import sleep
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeVar

from flexmw.contract.exception_slots import chain_of
from flexmw.errors import ConfigError
from flexmw.kit.breaker import Breaker
from flexmw.kit.clock import Clock
from flexmw.kit.expiring import ExpiringTable
from flexmw.kit.log_limit import LogLimit
from flexmw.kit.loop_time import StoreTimeout
from flexmw.kit.redis_errors import is_refusal, is_reply
from flexmw.kit.store_log import StoreLog
from flexmw.kit.store_observer import report
from flexmw.ratelimit.algorithms import Algorithm
from flexmw.ratelimit.concurrency import Lease, RemoteLease, finish_writes, number_of_ends, run_to_completion
from flexmw.ratelimit.core import SECOND, Check, CheckOutcome, LimitResult, Rate, Slot
from flexmw.ratelimit.event_loop import check_event_loop
from flexmw.ratelimit.stores import RemoteStore
from flexmw.ratelimit.stores.memory import MemoryStore

__all__ = ["REFUND_SECONDS", "FallbackBackend", "StoreFailure", "parse_store_failure"]

ResultT = TypeVar("ResultT")
REFUND_SECONDS: Final = 5.0
"""Seconds that the store has for a correction. Corrections run in the background, so they may take longer than a
decision. A lost correction makes a wrong bill."""

_CORRECTION_ATTEMPTS: Final = 120
_CORRECTION_PAUSE: Final = 0.25
"""A correction that the store has provably not carried out is repeated for half a minute, as long as a failover takes.
When the app ends, it is repeated once more."""

_MAX_DENIALS: Final = 262_144
_DENIAL_SECONDS: Final = 60


class StoreFailure(NamedTuple):
    """What a request gets when the store fails: the option ``on_store_failure``.

    :param mode: ``local`` (this process decides alone), ``open`` (the request passes) or ``closed`` (503).
    :param processes: by how many processes a limit is divided in the mode ``local``.
    """

    mode: str
    processes: int = 1

    def local(self, check: Check) -> Check:
        """The check with this process's share of every limit, at least 1."""
        if self.processes == 1:
            return check
        rates = tuple(rate._replace(limit=self._share(rate.limit)) for rate in check.rates)
        slot = None if check.slot is None else self.local_slot(check.slot)
        return check._replace(rates=rates, slot=slot)

    def local_slot(self, slot: Slot) -> Slot:
        """The slot with this process's share of the limit."""
        return slot._replace(limit=self._share(slot.limit))

    def _share(self, limit: int) -> int:
        return max(1, limit // self.processes)


def parse_store_failure(value: object, option: str) -> StoreFailure:
    """Read ``"local"``, ``"local/4"`` (in each of four processes a quarter of each limit), ``"open"`` or ``"closed"``.

    :raises ConfigError: for anything else.
    """
    if isinstance(value, str):
        mode, divided, processes = value.partition("/")
        if mode in ("local", "open", "closed") and not divided:
            return StoreFailure(mode)
        if mode == "local" and processes.isascii() and processes.isdigit() and 1 <= int(processes) <= 10_000:
            return StoreFailure(mode, int(processes))
    raise ConfigError(option, value, "'local', 'local/<number of processes>', 'open' or 'closed'")


class _NotAsked(Exception):
    """The breaker is open: the store was not asked."""


_NOT_ASKED: Final = _NotAsked()
_NEVER_CONNECTED: Final = (ConnectionRefusedError, FileNotFoundError, socket.gaierror)

_log: Final = logging.getLogger("flexmw.ratelimit")


def _is_not_executed(error: Exception) -> bool:
    """Whether the store has provably not carried the operation out, and may carry it out later."""
    if isinstance(error, _NotAsked):
        return True
    text = str(error)
    for cause in chain_of(error):
        if isinstance(cause, _NEVER_CONNECTED):
            return True
        if str(cause) != text:  # an error of its own: the one that follows may be of an earlier attempt
            break
    return is_reply(error) and not is_refusal(error)


class _Denial(NamedTuple):
    """A refusal by the store. It begins with the store's decision, between the command and the store's response.

    :param ask_again_us: the earliest moment at which it can be over, counted from the question: the store is asked
        again from then on.
    :param retry_at_us: the latest such moment, counted from the store's response. Refusals name this moment.
    """

    ask_again_us: int
    retry_at_us: int
    rates: tuple[Rate, ...]
    costs: tuple[int, ...]
    result: LimitResult


class FallbackBackend:
    """Decides by a store over a network, and without it when it fails.

    :param timeout: seconds that a decision may wait for the store.
    :param cache_denials: refuse a caller whom the store has refused in this process, until the wait is over. Safe
        only when costs are fixed: a refund by another process would make the cache wrong.
    :param log: writes that the store is lost and back; ``None``: nobody does.
    """

    def __init__(
        self,
        store: RemoteStore,
        algorithm: Algorithm,
        failure: StoreFailure,
        *,
        timeout: float,
        clock: Clock,
        cache_denials: bool = False,
        log: StoreLog | None = None,
    ) -> None:
        self.store = store
        self._failure = failure
        self._timeout = timeout
        self._log = log
        self._monotonic = clock.monotonic
        self._local = MemoryStore(algorithm, clock)
        self._breaker = Breaker(clock.monotonic)
        self._lost_corrections = LogLimit(burst=5, per_second=1 / 60, monotonic=clock.monotonic)
        self._record_no_reply: Callable[[], None] = getattr(store, "record_no_reply", _nothing)
        self._denials: ExpiringTable[_Denial] | None = None
        if cache_denials:
            self._denials = ExpiringTable(_DENIAL_SECONDS * SECOND, max_entries=_MAX_DENIALS, shards=64)

    async def decide(self, check: Check) -> CheckOutcome:
        """Ask the store; if it fails, decide by ``on_store_failure``."""
        start_us = int(self._monotonic() * SECOND)
        denials = self._denials if check.take else None
        if denials is not None:
            denial = denials.get(check.digest, start_us)
            if denial is not None and start_us < denial.ask_again_us and self._covers(denial, check):
                wait_us = denial.retry_at_us - start_us
                return CheckOutcome(denial.result._replace(wait_us=wait_us, reset_us=wait_us))
        result, error = await self._ask("decide", self.store.decide(check))
        if result is None:
            if self._log is not None:
                self._log.decided_locally()
            known = None if error is _NOT_ASKED else error
            if self._failure.mode != "local":
                return CheckOutcome(None, degraded=True, error=known)
            return CheckOutcome(self._local.decide(self._failure.local(check)), degraded=True, error=known)
        # A slot may come free at any time, so a refusal by the slots (a rate without a window) is not cached.
        if denials is not None and result.wait_us and result.rate.window_us:
            now_us = int(self._monotonic() * SECOND)
            ask_again_us, retry_at_us = start_us + result.wait_us, now_us + result.wait_us
            denials.put(check.digest, _Denial(ask_again_us, retry_at_us, check.rates, check.costs, result), now_us)
        return CheckOutcome(result)

    async def refund(self, check: Check, age_us: int, *, degraded: bool) -> None:
        """Give the costs of a check back to whoever took them; charge negative costs. A request waits for the store as
        long as for a decision; the correction goes on in the background. It is repeated while the store has provably
        not carried it out, and a WARNING says that one is lost.

        :param age_us: microseconds since the costs were taken.
        :param degraded: the costs were taken without the store.
        """
        await run_to_completion(self._refund(check, age_us, degraded), longest_wait=self._timeout)

    async def _refund(self, check: Check, age_us: int, degraded: bool) -> None:
        if degraded:
            self._local.refund(self._failure.local(check), age_us)
            return
        began, ends, is_lost = self._monotonic(), number_of_ends(), True
        try:
            for _ in range(_CORRECTION_ATTEMPTS):
                late_us = int((self._monotonic() - began) * SECOND)
                refund = self.store.refund(check, age_us + late_us)
                _, error = await self._ask("refund", refund, max(self._timeout, REFUND_SECONDS))
                is_lost = error is not None
                if error is None or ends != number_of_ends() or not _is_not_executed(error):
                    break
                await sleep(_CORRECTION_PAUSE)
        finally:  # the event loop may end, too
            if is_lost:
                self._warn_of_lost_correction(check)

    def _warn_of_lost_correction(self, check: Check) -> None:
        if (left_out := self._lost_corrections.admit()) is not None:
            _log.warning(
                "RateLimit has lost the correction of a request, because the store fails: unless the store has taken "
                "it without a reply, the caller has been charged what was reserved. Caller.digest: %s.%s",
                check.digest,
                left_out,
            )

    def lease(self, digest: str, slot: Slot) -> Lease:
        """The lease of a slot that a check is about to ask for."""
        return RemoteLease(self, digest, slot)

    async def renew(self, digest: str, slot: Slot, *, takes: bool = False) -> bool | None:
        """Begin the lease of a slot again. A failure is counted by the breaker; the lease may end.

        :param takes: take the slot if it is free, whatever the limit.
        :returns: whether the slot is held; ``None`` if the store fails.
        """
        held, _ = await self._ask("renew", self.store.renew(digest, slot, takes=takes))
        return held

    async def release(self, digest: str, slot: Slot) -> None:
        """Give a slot back to this process and to the store: a store that did not respond may have granted it. If the
        store fails, the slot is free when its lease ends."""
        self._local.release(digest, self._failure.local_slot(slot))
        await self._ask("release", self.store.release(digest, slot))

    def check_event_loop(self) -> None:
        """:raises ConfigError: under trio."""
        check_event_loop()

    async def close(self) -> None:
        """Finish what cancelled requests have left to write, and close the store's connections of this event loop."""
        await finish_writes()
        with suppress(Exception):  # a connection that is gone already
            await self.store.close()

    @property
    def retry_in(self) -> float:
        """Seconds until a store that fails is asked again."""
        return self._breaker.retry_in

    @staticmethod
    def _covers(denial: _Denial, check: Check) -> bool:
        """Whether the denial is of a check that needs no more than this one."""
        return denial.rates == check.rates and denial.costs <= check.costs

    async def _ask(
        self, operation: str, question: Coroutine[Any, Any, ResultT], seconds: float | None = None
    ) -> tuple[ResultT | None, Exception | None]:
        """What the store returned, or what it raised; :data:`_NOT_ASKED` if the breaker is open.

        :param operation: the name of the operation, for telemetry.
        :param seconds: the time that the store has; ``None`` for that of a decision.
        """
        if not self._breaker.allows():
            question.close()
            return None, _NOT_ASKED
        try:
            check_event_loop()
        except ConfigError:
            question.close()
            raise
        began = self._monotonic()
        try:
            with StoreTimeout(self._timeout if seconds is None else seconds):
                result = await question
        except Exception as error:
            report("ratelimit", operation, self._monotonic() - began, error)
            if isinstance(error, TimeoutError):
                self._record_no_reply()
            if is_reply(error) and not is_refusal(error):
                self._breaker.replied()
            else:
                self._breaker.failed()
            if self._log is not None:
                self._log.lost(error)
            return None, error
        except BaseException:
            self._breaker.cancelled()
            raise
        report("ratelimit", operation, self._monotonic() - began, None)
        self._breaker.succeeded()
        if self._log is not None and self._log.is_lost:
            self._log.back()
        return result, None


def _nothing() -> None:
    """For a store that does not want to know which operations took too long."""
