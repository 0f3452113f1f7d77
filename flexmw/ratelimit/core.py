"""The values of the limiter: rates, the check that a store gets, and its result. Pure.

Durations and moments are whole microseconds where a name ends in ``_us``.

>>> minute, day = Rate(10, 60 * SECOND, "10/minute", "10/1/minute"), Rate(1000, 86_400 * SECOND, "1000/day", "...")
>>> result = combine([LimitResult(minute, 4, 0, SECOND), LimitResult(day, 3, 0, SECOND)])
>>> result.rate.name, result.remaining
('1000/day', 3)
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final, NamedTuple

__all__ = [
    "MESSAGES",
    "MILLISECOND",
    "REQUESTS",
    "SECOND",
    "TOKENS",
    "Check",
    "CheckOutcome",
    "Decision",
    "LimitResult",
    "Rate",
    "Slot",
    "combine",
    "decision_of",
    "with_slot",
]

SECOND: Final = 1_000_000
"""One second in microseconds."""

MILLISECOND: Final = 1_000
"""One millisecond in microseconds."""

REQUESTS: Final = "requests"
TOKENS: Final = "tokens"
MESSAGES: Final = "messages"
"""The units. Each unit has counters of its own."""


class Rate(NamedTuple):
    """``limit`` of ``unit`` per window.

    :param limit: how many the window admits.
    :param window_us: the window's length in microseconds; 0 for the limit of concurrent requests (:class:`Slot`).
    :param name: the rate as a text, such as ``10/minute``: the policy's name in headers and telemetry.
    :param key_suffix: the last part of the store key, in the layout of ``limits``' ``RateLimitItem.key_for``.
    :param unit: what is counted.
    :param prefix: what keeps the counters apart from those of other limiters in the same store; empty for nothing.
    :param scale: what one of the unit is in ``limit`` and in the store: 1, or 1,000,000 of a unit that is not whole.
    :param period: the period of a calendar window, or ``budget``; empty for a window that begins with a request.
    :param ends_at_us: the end of such a window in Unix microseconds; 0 for a window that begins with a request.
    """

    limit: int
    window_us: int
    name: str
    key_suffix: str
    unit: str = REQUESTS
    prefix: str = ""
    scale: int = 1
    period: str = ""
    ends_at_us: int = 0

    @property
    def seconds(self) -> int:
        """The window in seconds."""
        return self.window_us // SECOND

    def key(self, digest: str, strategy: str) -> str:
        """The store key of a caller, as ``limits`` makes it of the identifiers ``{digest}`` and ``strategy``.

        Redis Cluster hashes what is inside the braces, so all windows of a caller are on one node.
        """
        start = f"{self.prefix}:LIMITER" if self.prefix else "LIMITER"
        return f"{start}/{{{digest}}}/{strategy}/{self.key_suffix}"


class Slot(NamedTuple):
    """One place among the requests that a caller may have going on at once.

    :param holder: a name for the request that asks, unique among all processes.
    :param limit: how many slots the caller has.
    :param lease_us: microseconds after which a slot is free unless its holder renews it, because a process may die.
    :param prefix: see :class:`Rate`.
    """

    holder: str
    limit: int
    lease_us: int
    prefix: str = ""

    @property
    def rate(self) -> Rate:
        """The slots as a rate without a window."""
        return Rate(self.limit, 0, f"{self.limit} at once", f"slots/{self.limit}", "concurrent-requests", self.prefix)


class Check(NamedTuple):
    """What a store is asked about one request.

    :param digest: the keyed hash of the caller.
    :param rates: every rate that applies to the request.
    :param costs: the cost of the request in each of the rates.
    :param slot: the slot that the request needs besides; taken together with the costs, or nothing is taken.
    :param earlier: the caller's digests under earlier peppers. What was counted under them moves to ``digest``.
    :param take: ``False`` only looks.
    """

    digest: str
    rates: tuple[Rate, ...]
    costs: tuple[int, ...]
    slot: Slot | None = None
    earlier: tuple[str, ...] = ()
    take: bool = True


class LimitResult(NamedTuple):
    """What a store decided, relative to the moment of the decision.

    :param rate: the most restrictive rate, the one that the other fields are about.
    :param remaining: what is left of it after the decision.
    :param wait_us: microseconds after which the same request would be admitted; 0 if it was admitted.
    :param reset_us: microseconds until the window ends; of a refused request the same as ``wait_us``.
    :param others: the most restrictive rate of each other unit.
    """

    rate: Rate
    remaining: int
    wait_us: int
    reset_us: int
    others: tuple[LimitResult, ...] = ()


class CheckOutcome(NamedTuple):
    """What became of a check.

    :param result: what was decided; ``None`` if nobody counted, because the store failed.
    :param degraded: whether the store did not decide.
    :param error: what the store raised; ``None`` if it was not asked.
    """

    result: LimitResult | None
    degraded: bool = False
    error: Exception | None = None


class Decision(NamedTuple):
    """What was decided about one request.

    :param allowed: whether the request was admitted.
    :param limit: the limit of the most restrictive window: the one that refused, or the one with the smallest share
        left.
    :param remaining: what is left of it.
    :param retry_after: seconds after which the request would be admitted, exact to the microsecond; 0.0 if it was;
        ``inf`` where no wait admits it: it costs more than a limit, or a budget is used up.
    :param reset_at: Unix seconds: when the window ends, or when a refused request would be admitted.
    :param policy: the window as a text, such as ``10/minute``.
    :param window: its length in seconds.
    :param degraded: whether the store failed and this process decided alone; such a decision is not exact.
    :param unit: what is counted.
    :param others: the most restrictive window of each other unit.
    """

    allowed: bool
    limit: int
    remaining: int
    retry_after: float
    reset_at: float
    policy: str
    window: int
    degraded: bool = False
    unit: str = REQUESTS
    others: tuple[Decision, ...] = ()


def combine(results: Sequence[LimitResult]) -> LimitResult:
    """The most restrictive result, with the most restrictive one of each other unit in ``others``.

    Most restrictive is the longest wait, then the smallest share left, then the latest reset.
    """
    by_unit: dict[str, LimitResult] = {}
    for result in results:
        current = by_unit.get(result.rate.unit)
        if current is None or _slack(result) < _slack(current):
            by_unit[result.rate.unit] = result
    first, *others = sorted(by_unit.values(), key=_slack)
    return first._replace(others=tuple(others)) if others else first


def _slack(result: LimitResult) -> tuple[int, float, int]:
    """A sort key: the most restrictive result has the smallest."""
    return -result.wait_us, result.remaining / (result.rate.limit or 1), -result.reset_us  # a budget may be 0


def with_slot(slot: Slot, taken: int, full: bool, result: LimitResult | None) -> LimitResult:
    """The result of a request that needs a slot besides its rates.

    A refusal by a rate comes first, because its wait is known. Nobody knows when a slot comes free, so the wait for a
    slot is one second: the smallest that ``Retry-After`` can express.

    :param taken: how many slots are taken after the decision.
    :param full: whether no slot was free.
    :param result: the result of the rates; ``None`` if the request has none.
    """
    if result is not None and (result.wait_us or not full):
        return result
    if not full:
        return LimitResult(slot.rate, slot.limit - taken, 0, 0)
    others = () if result is None else (result._replace(others=()), *result.others)
    return LimitResult(slot.rate, 0, SECOND, SECOND, others)


def decision_of(result: LimitResult, now: float, *, degraded: bool = False, is_final: bool = False) -> Decision:
    """A result as an absolute value.

    :param now: the moment of the decision in Unix seconds.
    :param is_final: no wait admits the request.
    """
    rate = result.rate
    is_final = is_final and bool(result.wait_us)
    return Decision(
        allowed=not result.wait_us,
        limit=rate.limit,
        remaining=result.remaining,
        retry_after=inf if is_final else result.wait_us / SECOND,
        reset_at=inf if is_final else now + result.reset_us / SECOND,
        policy=rate.name,
        window=rate.seconds,
        degraded=degraded,
        unit=rate.unit,
        others=tuple(decision_of(other, now, degraded=degraded, is_final=is_final) for other in result.others),
    )
