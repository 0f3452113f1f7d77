"""Windows of the calendar: days, months and years of UTC, and the window of a budget, which has no end. Pure.

A ``RateLimitItem`` of ``limits`` has a number of seconds, so it cannot express them: its month is 30 days. A rate of
such a window has a counter of its own in each period. Its key contains the period, so all processes count a request in
the same period as long as they agree on the date, and its end is a moment, not a time to live.

>>> from datetime import datetime
>>> start, end, name = period_of("month", datetime(2028, 2, 29, 12, tzinfo=UTC).timestamp())
>>> (end - start) // 86_400, name
(29, '2028-02')
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from flexmw.ratelimit.core import SECOND, Rate

__all__ = ["BUDGET", "BUDGET_ENDS_AT", "PERIODS", "current", "period_of"]

PERIODS: Final = ("day", "month", "year")
BUDGET: Final = "budget"
"""The period of a budget: it does not end, and what is used does not come back."""

BUDGET_ENDS_AT: Final = 253_402_300_799
"""The last second of the year 9999."""


def period_of(period: str, now: float) -> tuple[int, int, str]:
    """The calendar period of a moment: its first second, the first second after it, and its name.

    :param period: one of :data:`PERIODS`.
    :param now: Unix seconds.
    """
    moment = datetime.fromtimestamp(now, UTC)
    year, month, day = moment.year, moment.month, moment.day
    if period == "day":
        start = _seconds(year, month, day)
        return start, start + 86_400, f"{moment:%Y-%m-%d}"
    if period == "month":
        return _seconds(year, month), _seconds(year + month // 12, month % 12 + 1), f"{moment:%Y-%m}"
    return _seconds(year), _seconds(year + 1), f"{moment:%Y}"


def _seconds(year: int, month: int = 1, day: int = 1) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp())


def current(rate: Rate, now: float) -> Rate:
    """The rate with the counter of the period that a moment is in. Other rates are returned as they are.

    :param now: Unix seconds.
    """
    if rate.period not in PERIODS:
        return rate
    start, end, name = period_of(rate.period, now)
    key_suffix = f"{rate.key_suffix.partition('@')[0]}@{name}"
    return rate._replace(window_us=(end - start) * SECOND, key_suffix=key_suffix, ends_at_us=end * SECOND)
