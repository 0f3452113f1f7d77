"""Log lines about a store: a WARNING when it is lost, and an INFO when it is back.

They go to the logger of the component (``flexmw.ratelimit``, ``flexmw.idempotency``, ``flexmw.pace``), with or without
an OpenTelemetry SDK. An outage has these two lines, however many requests meet it and however its errors change. One
change is worth a third line: a store that was away and now refuses this client, which no waiting mends.

>>> from flexmw.kit.clock import SYSTEM
>>> fallback = Fallback("Every request passes until it responds", "{count} requests passed")
>>> StoreLog("flexmw.ratelimit", "redis://cache:6379", fallback, monotonic=SYSTEM.monotonic).is_lost
False
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from threading import Lock
from typing import Final, NamedTuple

from flexmw.contract import redact
from flexmw.kit.forked import fork_safe
from flexmw.kit.redis_errors import advice_of, is_refusal

__all__ = ["Fallback", "StoreLog"]

_QUIET_SECONDS: Final = 10.0
"""Seconds after the last line in which a short loss is not written, for stores that come and go, and for the
connections that a restart leaves dead in a pool."""

_SHORT_SECONDS: Final = 1.0
"""Seconds after which a loss is not short: one late reply before a failover must not keep the failover out of the
log."""


class Fallback(NamedTuple):
    """What a component does without its store, in two sentences.

    :param during: what happens to requests until the store responds, without a full stop.
    :param after: what has happened to the requests of the outage; ``{count}`` is their number.
    """

    during: str
    after: str


class StoreLog:
    """The state of one store, as the log knows it. Safe for threads.

    :param logger: name of the logger.
    :param store: the store without its credentials.
    :param fallback: what the component does without the store.
    :param monotonic: the clock in seconds.
    :param secrets: texts that no line may hold.
    """

    def __init__(
        self,
        logger: str,
        store: str,
        fallback: Fallback,
        *,
        monotonic: Callable[[], float],
        secrets: Collection[str] = (),
    ) -> None:
        self._log = logging.getLogger(logger)
        self._store, self._fallback, self._secrets = store, fallback, secrets
        self._monotonic = monotonic
        self._lock = fork_safe(Lock())
        self.is_lost = False
        self._since = 0.0
        self._written_at = float("-inf")
        self._is_written = self._is_refused = self._ends_with_claim = False
        self._local_decisions = 0

    def expect_lines(self) -> None:
        """Another component shares this log: write about the next loss, however short the time since the last line."""
        with self._lock:
            if not self.is_lost:
                self._written_at = float("-inf")

    def lost(self, error: BaseException, *, is_claim: bool = False) -> None:
        """The store has failed.

        :param is_claim: whether it has failed to take a new key. A full store still renews the leases of known keys,
            so the outage then ends with the next new key that the store takes.
        """
        now, is_refused = self._monotonic(), is_refusal(error)
        with self._lock:
            if not self.is_lost:
                self.is_lost, self._since, self._local_decisions = True, now, 0
                self._is_written = self._is_refused = self._ends_with_claim = False
            self._ends_with_claim = self._ends_with_claim or is_claim
            if self._is_written:
                is_due = is_refused and not self._is_refused
            else:
                is_due = now - self._written_at >= _QUIET_SECONDS or now - self._since >= _SHORT_SECONDS
            if not is_due:
                return
            self._is_written, self._is_refused, self._written_at = True, is_refused, now
        self._log.warning("The store %s fails: %s. %s.", self._store, self._reason(error), self._fallback.during)

    def decided_locally(self) -> None:
        """A request was decided without the store. Without effect while the store is not lost."""
        if self.is_lost:
            with self._lock:
                self._local_decisions += 1

    def back(self, *, is_claim: bool = True) -> None:
        """The store has carried out an operation. Call it only while :attr:`is_lost`.

        :param is_claim: see :meth:`lost`.
        """
        with self._lock:
            if not self.is_lost or (self._ends_with_claim and not is_claim):
                return
            now, self.is_lost = self._monotonic(), False
            seconds, count, is_written = now - self._since, self._local_decisions, self._is_written
            if is_written:
                self._written_at = now
        if is_written:
            after = self._fallback.after.format(count=count)
            self._log.info("The store %s responds again, after %.1f s. %s.", self._store, seconds, after)

    def _reason(self, error: BaseException) -> str:
        """The class and the text of an error. A secret may be in the text: a driver's message holds what it likes."""
        name, advice = type(error).__name__, advice_of(error, self._secrets)
        reason = advice if advice.startswith(name) else f"{name}: {advice}"
        return redact(reason).rstrip(".")
