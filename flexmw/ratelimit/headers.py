"""What a response and telemetry say about a decision: headers, facts on the exchange, events, and the refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import ceil, inf
from typing import Any, Final, NamedTuple

from flexmw.contract import HeaderStyle, Quota, render
from flexmw.errors import APIError, InsufficientCredit, RateLimitExceeded, SubsystemOffline
from flexmw.kit.asgi import raw_headers
from flexmw.kit.clock import Clock
from flexmw.kit.events import RateLimitDecided, RateLimitStoreFailed
from flexmw.kit.exchange import Exchange, Header
from flexmw.ratelimit.calendar import BUDGET
from flexmw.ratelimit.core import SECOND, Check, CheckOutcome, LimitResult, Rate

__all__ = [
    "REMAINING",
    "REMAINING_HEADER",
    "RESULT",
    "ROUNDING_SECONDS",
    "PlainReport",
    "Reporter",
    "is_final",
    "reset_header",
]

RESULT: Final = "flexmw.rate_limiting.result"
POLICY: Final = "flexmw.rate_limiting.policy"
LIMIT: Final = "flexmw.rate_limiting.limit"
REMAINING: Final = "flexmw.rate_limiting.remaining"
RETRY_AFTER: Final = "flexmw.rate_limiting.retry_after"
"""The facts: attributes of the span, described in ``flexmw.kit.semconv``."""

_RESULTS: Final = {
    (True, False): "acquired",
    (False, False): "rejected",
    (True, True): "storage_error_allowed",
    (False, True): "storage_error_rejected",
}
"""The value of :data:`RESULT`, by whether the request was allowed and whether the store failed."""

_SHADOW_RESULTS: Final = {**_RESULTS, (False, False): "shadow_rejected", (False, True): "shadow_rejected"}
"""The same of a limiter that refuses nothing. Its events say ``rejected`` and have ``shadow`` beside it."""

ROUNDING_SECONDS: Final = 5e-7
"""A reset is rounded up to whole seconds, but for this much above a whole second."""

REMAINING_HEADER: Final = b"x-ratelimit-remaining-requests"


@lru_cache(maxsize=1024)
def _limit_header(limit: int) -> Header:
    return b"x-ratelimit-limit-requests", b"%d" % limit


_MAX_RESETS: Final = 1024

_RESET_HEADERS: Final[dict[int, Header]] = {}
"""The headers of :func:`reset_header` that are remembered, by second."""


def reset_header(reset_at: int) -> Header:
    """The header with the Unix second at which a window ends.

    Many windows end within one second, so it is remembered.
    """
    header = _RESET_HEADERS.get(reset_at)
    if header is None:
        if len(_RESET_HEADERS) >= _MAX_RESETS:
            _RESET_HEADERS.clear()
        header = _RESET_HEADERS[reset_at] = b"x-ratelimit-reset-requests", b"%d" % reset_at
    return header


class PlainReport(NamedTuple):
    """What the reports of all requests that one rate admits have in common.

    :param facts: the facts; what remains is 0 in them.
    :param limit: the header with the limit.
    """

    facts: dict[str, str | int | float | bool]
    limit: Header


class Reporter:
    """Reports the decisions of one limiter.

    :param failure_mode: the mode of ``on_store_failure``.
    :param styles: the styles of the limit headers.
    :param shadow: report, but refuse nothing.
    :param one_unit: requests are the only unit that this limiter counts.
    """

    def __init__(
        self, *, failure_mode: str, clock: Clock, styles: Sequence[HeaderStyle], shadow: bool, one_unit: bool
    ) -> None:
        self._allowed_without_result = failure_mode == "open"
        self._now = clock.now
        self._styles = styles
        self._shadow = shadow
        self._results = _SHADOW_RESULTS if shadow else _RESULTS
        self._is_plain = one_unit and tuple(styles) in (("unix",), ("seed",))

    def report(self, exchange: Exchange, check: Check, outcome: CheckOutcome, duration: float) -> None:
        """Add headers and facts to the exchange, and emit the events.

        :param duration: seconds that the decision took.
        """
        result, degraded, _ = outcome
        if result is not None:
            self.add(exchange, result, degraded, check)
            policy = result.rate.name
        else:
            policy = check.rates[0].name if check.rates else check.slot.rate.name if check.slot else ""
            exchange.facts[RESULT] = self._results[self._allowed_without_result, degraded]
            exchange.facts[POLICY] = policy
        if exchange.observers:
            self.emit(exchange, policy, check.digest, outcome, duration)

    def add(self, exchange: Exchange, result: LimitResult, degraded: bool, check: Check | None) -> None:
        """Add headers and facts to the exchange. Of two limiters around one app, the facts and the headers of the more
        restrictive one come first; the other one adds headers that the first does not have, such as another unit's.

        :param check: what the store was asked; ``None`` if the request was admitted. No wait is reported for a request
            that costs more than a limit.
        """
        facts, headers = exchange.facts, exchange.headers
        rate, remaining, wait_us, reset_us, _ = result
        is_too_large = bool(wait_us) and check is not None and _excess(check) is not None
        limit = rate.limit
        leads = not facts or wait_us > 0 or _is_tighter(result, facts)
        if leads:
            facts |= {
                RESULT: self._results[not wait_us, degraded],
                POLICY: rate.name,
                LIMIT: limit,
                REMAINING: remaining,
            }
            if wait_us and rate.period != BUDGET and not is_too_large:
                facts[RETRY_AFTER] = wait_us / SECOND
        now = self._now()
        if self._is_plain and not wait_us and not headers:
            # The same headers as those of `render`, at a tenth of the price: nearly every request takes this branch.
            reset_at = ceil(now + reset_us / SECOND - ROUNDING_SECONDS)
            headers += _limit_header(limit), (REMAINING_HEADER, b"%d" % remaining), reset_header(reset_at)
            return
        quotas = self._quotas(result, now, is_too_large)
        own = raw_headers(render(*quotas, now=now, styles=self._styles)) if quotas else []
        first, second = (own, headers) if leads else (headers, own)
        names = {name for name, _ in first}
        headers[:] = [*first, *(pair for pair in second if pair[0] not in names)]

    def plain(self, rate: Rate) -> PlainReport | None:
        """What :meth:`add` says of each request that is admitted under the only rate of a limiter. ``None`` if the
        limiter has other styles of headers."""
        if not self._is_plain:
            return None
        facts: dict[str, str | int | float | bool] = {
            RESULT: self._results[True, False],
            POLICY: rate.name,
            LIMIT: rate.limit,
            REMAINING: 0,
        }
        return PlainReport(facts, _limit_header(rate.limit))

    def emit(
        self,
        exchange: Exchange,
        policy: str,
        digest: str,
        outcome: CheckOutcome,
        duration: float,
    ) -> None:
        """Emit the events of one decision.

        :param digest: the keyed hash of the caller.
        :param duration: seconds that the decision took.
        """
        result, degraded, error = outcome
        allowed = self._allowed_without_result if result is None else not result.wait_us
        result_name = _RESULTS[allowed, degraded]
        if error is not None:
            failed: RateLimitStoreFailed = {"exception": error, "policy": policy, "result": result_name}
            exchange.emit("flexmw.rate_limiting.storage_failed", failed)
        decided: RateLimitDecided = {
            "result": result_name,
            "policy": policy,
            "degraded": degraded,
            "duration": duration,
            "error_type": None if error is None else type(error).__qualname__,
            "shadow": self._shadow,
            "caller": digest,
        }
        exchange.emit("flexmw.rate_limiting.decided", decided)

    def refusal(self, result: LimitResult | None, retry_in: float, check: Check | None = None) -> APIError | None:
        """The error for a request that may not pass; ``None`` if it may.

        :param retry_in: seconds until a store that fails is asked again.
        :param check: what the store was asked; ``None`` if the request costs 1.
        """
        if self._shadow:
            return None
        if result is not None:
            if not result.wait_us:
                return None
            if result.rate.period == BUDGET:
                return InsufficientCredit()
            excess = None if check is None else _excess(check)
            return RateLimitExceeded(result.wait_us / SECOND) if excess is None else _too_large(*excess)
        if self._allowed_without_result:
            return None
        return SubsystemOffline("The rate limiter", max(1.0, retry_in))

    def _waits(self, result: LimitResult) -> bool:
        """Whether a refused client is told how long to wait: not for a budget, which only a payment refills."""
        return bool(result.wait_us) and not self._shadow and result.rate.period != BUDGET

    def _quotas(self, result: LimitResult, now: float, is_too_large: bool) -> list[Quota]:
        """One quota for each unit. The limit of concurrent requests is reported only where it refuses: its remaining
        number is out of date before it can be read."""
        return [
            Quota(
                limit=unit.rate.limit,
                remaining=unit.remaining,
                reset_at=inf if unit.rate.period == BUDGET else now + unit.reset_us / SECOND,
                window=0 if unit.rate.period == BUDGET else unit.rate.seconds,
                wait=None if is_too_large or not self._waits(unit) else unit.wait_us / SECOND,
                policy=unit.rate.name,
                unit=unit.rate.unit,
                scale=unit.rate.scale,
            )
            for unit in (result, *result.others)
            if unit.rate.window_us or unit.wait_us
        ]


def is_final(result: LimitResult, check: Check) -> bool:
    """Whether no wait admits a request: it was refused, and costs more than a limit, or a budget is used up."""
    return bool(result.wait_us) and (result.rate.period == BUDGET or _excess(check) is not None)


def _excess(check: Check) -> tuple[int, Rate] | None:
    """The cost of a request in the first rate whose limit is smaller, and the rate: no wait admits the request.

    ``None`` if there is no such rate. A budget is none: a payment raises it.
    """
    costs = zip(check.costs, check.rates, strict=False)
    return next(((cost, rate) for cost, rate in costs if cost > rate.limit and rate.period != BUDGET), None)


def _too_large(cost: int, rate: Rate) -> RateLimitExceeded:
    """The error for a request that no wait admits."""
    amount, limit = (f"{value / rate.scale:.12g}" for value in (cost, rate.limit))
    message = f"The request is larger than the rate limit: it counts {amount} {rate.unit}, and the limit is {limit}."
    return RateLimitExceeded(None, message=message)


def _is_tighter(result: LimitResult, facts: Mapping[str, Any]) -> bool:
    """Whether a smaller share is left than by the limiter that the facts are of."""
    limit = facts.get(LIMIT)
    if limit is None:
        return True
    return bool(result.remaining / result.rate.limit < facts[REMAINING] / limit)
