"""What is said about a decision: headers and facts on the exchange, events to whoever listens, the refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, Final

from flexmw.contract import Dialect, Quota, render
from flexmw.errors import APIError, RateLimitExceeded, SubsystemOffline
from flexmw.kit.asgi import raw_headers
from flexmw.kit.clock import Clock
from flexmw.kit.exchange import Exchange
from flexmw.ratelimit.core import SECOND, Rate, Verdict
from flexmw.ratelimit.ladder import Policy
from flexmw.ratelimit.limiter import Limiter

__all__ = ["RESULT", "Report"]

RESULT: Final = "flexmw.rate_limiting.result"
_ROUNDING: Final = 5e-7
_RESULTS: Final = {
    (True, False): "acquired",
    (False, False): "rejected",
    (True, True): "storage_error_allowed",
    (False, True): "storage_error_rejected",
}


class Report:
    """Speaks for one limiter.

    :param alone: requests are all that it counts.
    """

    def __init__(
        self,
        limiter: Limiter,
        policy: Policy,
        *,
        clock: Clock,
        dialects: Sequence[Dialect],
        shadow: bool,
        alone: bool,
    ) -> None:
        self._limiter = limiter
        self._policy = policy
        self._clock = clock
        self._dialects = dialects
        self._shadow = shadow
        self._plain = alone and tuple(dialects) == ("seed",)

    def note(self, exchange: Exchange, found: Verdict | None, degraded: bool, rates: Sequence[Rate]) -> None:
        """Leave headers and facts on the exchange."""
        facts = exchange.facts
        if found is None:
            facts[RESULT] = self._result(found, degraded)
            facts["flexmw.rate_limiting.policy"] = rates[0].name
        elif not facts or found.wait or _is_tighter(found, facts):
            facts[RESULT] = self._result(found, degraded)
            facts["flexmw.rate_limiting.policy"] = found.rate.name
            facts["flexmw.rate_limiting.limit"] = found.rate.limit
            facts["flexmw.rate_limiting.remaining"] = found.remaining
            if found.wait:
                facts["flexmw.rate_limiting.retry_after"] = found.wait / SECOND
            self._head(exchange, found)

    def tell(
        self,
        exchange: Exchange,
        found: Verdict | None,
        degraded: bool,
        rates: Sequence[Rate],
        duration: float,
        failures: Sequence[Exception],
    ) -> None:
        """Tell the events of one decision."""
        result, policy = self._result(found, degraded), (found.rate if found else rates[0]).name
        for error in failures:
            exchange.tell(
                "flexmw.rate_limiting.storage_failed", {"exception": error, "policy": policy, "result": result}
            )
        exchange.tell(
            "flexmw.rate_limiting.decided",
            {
                "decision": None if found is None else self._limiter.decision(found, degraded),
                "result": result,
                "policy": policy,
                "duration": duration,
                "error_type": type(failures[0]).__qualname__ if failures else None,
                "shadow": self._shadow,
            },
        )

    def refusal(self, found: Verdict | None) -> APIError | None:
        """The answer to a request that may not pass."""
        if self._shadow:
            return None
        if found is not None:
            return RateLimitExceeded(found.wait / SECOND) if found.wait else None
        if self._policy.mode == "open":
            return None
        return SubsystemOffline("The rate limiter", max(1.0, self._limiter.retry_in))

    def _result(self, found: Verdict | None, degraded: bool) -> str:
        allowed = self._policy.mode == "open" if found is None else not found.wait
        return _RESULTS[allowed, degraded]

    def _head(self, exchange: Exchange, found: Verdict) -> None:
        now = self._clock.now()
        if self._plain and not found.wait and not exchange.headers:
            # What `render` would say, on the shortest way: this is done for nearly every request.
            exchange.headers += (
                (b"x-ratelimit-limit-requests", b"%d" % found.rate.limit),
                (b"x-ratelimit-remaining-requests", b"%d" % found.remaining),
                (b"x-ratelimit-reset-requests", b"%d" % ceil(now + found.reset / SECOND - _ROUNDING)),
            )
            return
        quotas = self._quotas(found, now)
        if not quotas:
            return
        headers = raw_headers(render(*quotas, now=now, dialects=self._dialects))
        if exchange.headers:
            names = {name for name, _ in headers}
            headers += [pair for pair in exchange.headers if pair[0] not in names]
        exchange.headers[:] = headers

    def _quotas(self, found: Verdict, now: float) -> list[Quota]:
        """One for each unit. How many are going on at once is said only where that refuses: it is past when it is
        read."""
        return [
            Quota(
                limit=each.rate.limit,
                remaining=each.remaining,
                reset_at=now + each.reset / SECOND,
                window=each.rate.seconds,
                wait=None if not each.wait or self._shadow else each.wait / SECOND,
                policy=each.rate.name,
                unit=each.rate.unit,
            )
            for each in (found, *found.others)
            if each.rate.window or each.wait
        ]


def _is_tighter(found: Verdict, facts: Mapping[str, Any]) -> bool:
    """Whether a decision leaves less than that of another limiter around this one."""
    limit = facts.get("flexmw.rate_limiting.limit")
    if limit is None:
        return True
    return bool(found.remaining / found.rate.limit < facts["flexmw.rate_limiting.remaining"] / limit)
