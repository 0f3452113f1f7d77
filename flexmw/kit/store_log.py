"""Log lines about a store: one when it is lost, one when what it says changes, and one when it is back.

They go to the logger of the component (``flexmw.ratelimit``, ``flexmw.idempotency``, ``flexmw.pace``), with or without
an OpenTelemetry SDK.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Final

from flexmw.kit.redis_errors import advice_of, clean

__all__ = ["StoreLog"]

_QUIET_SECONDS: Final = 10.0
"""Seconds after a line about a loss in which the same loss is not written again, for stores that come and go."""


class StoreLog:
    """The state of one store, as the log knows it.

    :param logger: name of the logger.
    :param store: the store without its credentials.
    :param consequence: what happens to requests without the store: a sentence.
    :param secrets: texts that no line may hold.
    """

    def __init__(
        self,
        logger: str,
        store: str,
        consequence: str,
        *,
        monotonic: Callable[[], float],
        secrets: Collection[str] = (),
    ) -> None:
        self._log = logging.getLogger(logger)
        self._store, self._consequence, self._secrets = store, consequence, secrets
        self._monotonic = monotonic
        self.is_lost = False
        self._since = 0.0
        self._written_at = float("-inf")
        self._last = ""

    def lost(self, error: BaseException) -> None:
        """The store has failed."""
        now = self._monotonic()
        reason = clean(advice_of(error), self._secrets)
        is_new = not self.is_lost or reason != self._last
        if not self.is_lost:
            self.is_lost, self._since = True, now
        if is_new and (reason != self._last or now - self._written_at >= _QUIET_SECONDS):
            self._last, self._written_at = reason, now
            self._log.warning("The store %s fails: %s. %s", self._store, reason, self._consequence)

    def back(self) -> None:
        """The store has replied again. Call it only while :attr:`is_lost`."""
        self.is_lost = False
        if self._written_at >= self._since:
            self._log.warning(
                "The store %s responds again, after %.1f s.", self._store, self._monotonic() - self._since
            )
