"""What is said about a decision: headers and facts on the exchange, events to whoever listens, the refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import ceil
from typing import Any, Final

from flexmw.contract import HeaderStyle, Quota, render
from flexmw.errors import APIError, RateLimitExceeded, SubsystemOffline
from flexmw.kit.asgi import raw_headers
from flexmw.kit.clock import Clock
from flexmw.kit.exchange import Exchange, Header
from flexmw.ratelimit.core import SECOND, LimitResult, Rate
from flexmw.ratelimit.fallback import Policy
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


_REMAINING: Final = b"x-ratelimit-remaining-requests"


@lru_cache(maxsize=1024)
def _limit(limit: int) -> Header:
    return b"x-ratelimit-limit-requests", b"%d" % limit


@lru_cache(maxsize=1024)
def _reset(reset_at: int) -> Header:
    return b"x-ratelimit-reset-requests", b"%d" % reset_at


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
        dialects: Sequence[HeaderStyle],
        shadow: bool,
        alone: bool,
    ) -> None:
        self._limiter = limiter
        self._policy = policy
        self._now = clock.now
        self._dialects = dialects
        self._shadow = shadow
        self._plain = alone and tuple(dialects) == ("seed",)

    def note(self, exchange: Exchange, found: LimitResult | None, degraded: bool, rates: Sequence[Rate]) -> None:
        """Leave headers and facts on the exchange."""
        facts, headers = exchange.facts, exchange.headers
        if found is None:
            facts[RESULT] = self._result(found, degraded)
            facts["flexmw.rate_limiting.policy"] = rates[0].name
            return
        rate, remaining, wait, reset, _ = found
        limit = rate.limit
        leads = not facts or wait > 0 or _is_tighter(found, facts)
        if leads:
            facts |= {
                RESULT: _RESULTS[not wait, degraded],
                "flexmw.rate_limiting.policy": rate.name,
                "flexmw.rate_limiting.limit": limit,
                "flexmw.rate_limiting.remaining": remaining,
            }
            if wait:
                facts["flexmw.rate_limiting.retry_after"] = wait / SECOND
        now = self._now()
        if self._plain and not wait and not headers:
            # What `render` would say, on the shortest way: this is done for nearly every request.
            reset_at = ceil(now + reset / SECOND - _ROUNDING)
            headers += _limit(limit), (_REMAINING, b"%d" % remaining), _reset(reset_at)
            return
        quotas = self._quotas(found, now)
        said = raw_headers(render(*quotas, now=now, styles=self._dialects)) if quotas else []
        # Of two limiters the tighter one speaks; the other one adds what that does not say, such as another unit.
        first, second = (said, headers) if leads else (headers, said)
        names = {name for name, _ in first}
        headers[:] = [*first, *(pair for pair in second if pair[0] not in names)]

    def tell(
        self,
        exchange: Exchange,
        found: LimitResult | None,
        degraded: bool,
        rates: Sequence[Rate],
        duration: float,
        failures: Sequence[Exception],
    ) -> None:
        """Tell the events of one decision."""
        result, policy = self._result(found, degraded), (found.rate if found else rates[0]).name
        for error in failures:
            exchange.emit(
                "flexmw.rate_limiting.storage_failed", {"exception": error, "policy": policy, "result": result}
            )
        exchange.emit(
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

    def refusal(self, found: LimitResult | None) -> APIError | None:
        """The answer to a request that may not pass."""
        if self._shadow:
            return None
        if found is not None:
            return RateLimitExceeded(found.wait_us / SECOND) if found.wait_us else None
        if self._policy.mode == "open":
            return None
        return SubsystemOffline("The rate limiter", max(1.0, self._limiter.retry_in))

    def _result(self, found: LimitResult | None, degraded: bool) -> str:
        allowed = self._policy.mode == "open" if found is None else not found.wait_us
        return _RESULTS[allowed, degraded]

    def _quotas(self, found: LimitResult, now: float) -> list[Quota]:
        """One for each unit. How many are going on at once is said only where that refuses: it is past when it is
        read."""
        return [
            Quota(
                limit=each.rate.limit,
                remaining=each.remaining,
                reset_at=now + each.reset_us / SECOND,
                window=each.rate.seconds,
                wait=None if not each.wait_us or self._shadow else each.wait_us / SECOND,
                policy=each.rate.name,
                unit=each.rate.unit,
            )
            for each in (found, *found.others)
            if each.rate.window_us or each.wait_us
        ]


def _is_tighter(found: LimitResult, facts: Mapping[str, Any]) -> bool:
    """Whether a decision leaves less than that of another limiter around this one."""
    limit = facts.get("flexmw.rate_limiting.limit")
    if limit is None:
        return True
    return bool(found.remaining / found.rate.limit < facts["flexmw.rate_limiting.remaining"] / limit)
