"""Rates from text: the notation of ``limits``, such as ``10/minute`` or ``5 per 2 hour``.

>>> [rate.name for rate in parse_rates(["10/minute", "1000 per 1 day"])]
['10/minute', '1000/day']
>>> parse_rates("10/fortnight", "RateLimit(*rates)")
Traceback (most recent call last):
    ...
flexmw.errors.ConfigError: RateLimit(*rates) = '10/fortnight': expected rates such as '10/minute', '5 per 2 hour' or \
['10/minute', '1000/day']
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Final, TypeAlias, cast

from limits import RateLimitItem, parse_many

from flexmw.contract.numbers import scaled
from flexmw.errors import ConfigError
from flexmw.ratelimit.amounts import SCALE, Amount, whole_amount
from flexmw.ratelimit.calendar import BUDGET, BUDGET_ENDS_AT, PERIODS
from flexmw.ratelimit.core import MESSAGES, REQUESTS, SECOND, TOKENS, Rate

__all__ = ["Rates", "budget_rate", "credit_rate", "parse_rates"]

Rates: TypeAlias = tuple[Rate, ...]
_EXPECTED: Final = "rates such as '10/minute', '5 per 2 hour' or ['10/minute', '1000/day']"
_PERIOD_SECONDS: Final[dict[str, int]] = dict(zip(PERIODS, (86_400, 2_678_400, 31_622_400), strict=True))
_SEPARATOR: Final = re.compile(r"[,;|]")
_NO_WINDOW: Final = re.compile(r"(?:/|\sper\s)\s*0+(?!\d)")
_AMOUNT: Final = re.compile(r"\s*(\d+(?:\.\d+)?)(\s*(?:/|\s*per\s).*)", re.DOTALL)
_CALENDAR: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:/|\s*per\s)\s*calendar[- ](day|month|year)\s*")


def _scale_of(unit: str) -> int:
    """The number that stands for one of a unit in a store: 1, or 1,000,000 where the store counts millionths."""
    return 1 if unit in (REQUESTS, TOKENS, MESSAGES) else SCALE


def parse_rates(
    value: object,
    option: str = "rates",
    *,
    group: str = "",
    any_limit: bool = False,
    unit: str = REQUESTS,
    prefix: str = "",
) -> Rates:
    """Rates from ``"10/minute"``, ``"10/minute; 1000/day"``, a ``RateLimitItem`` of ``limits`` or a list of these.

    :param option: the option's name for error messages.
    :param group: a name that keeps the counters apart from those of the same rates in other groups.
    :param any_limit: leave the limit out of the store key, so that a caller whose limit changes keeps their usage.
    :param unit: what is counted.
    :param prefix: what keeps the counters apart from those of other limiters in the same store.
    :raises ConfigError: for a text in another notation, for an amount of 0, and for two rates over one window, because
        only the smaller one would ever decide.
    """
    items: list[RateLimitItem | Rate] = []
    values: Sequence[object] = cast("Sequence[object]", value) if isinstance(value, (list, tuple)) else [value]
    for entry in values:
        if isinstance(entry, RateLimitItem):
            items.append(entry)
            continue
        try:
            items.extend(_parse(entry, group, any_limit, unit, prefix))
        except ValueError:
            raise ConfigError(option, entry, _EXPECTED) from None
    if not items:
        raise ConfigError(option, values, _EXPECTED)
    rates = tuple(
        item if isinstance(item, Rate) else _rate(item, group, any_limit, unit, prefix, _scale_of(unit))
        for item in items
    )
    for rate in rates:
        if rate.limit < 1 or rate.window_us < 1:
            raise ConfigError(option, rate.name, f"an amount and a window of at least 1: {_EXPECTED}")
        if sum(other.window_us == rate.window_us and other.period == rate.period for other in rates) > 1:
            raise ConfigError(
                option, values, f"one rate per window; several take {rate.seconds} s and the smallest rules"
            )
    return rates


def budget_rate(amount: Amount, unit: str, prefix: str) -> Rate:
    """The budget of a caller as a rate: its one window does not end.

    :param amount: all that the caller has ever been given.
    """
    limit, ends_at_us = whole_amount(amount, SCALE), BUDGET_ENDS_AT * SECOND
    return Rate(limit, ends_at_us, f"{unit} {BUDGET}", f"{unit}/{BUDGET}", unit, prefix, SCALE, BUDGET, ends_at_us)


def credit_rate(amount: Amount, unit: str, prefix: str, seconds: int) -> Rate:
    """The credit that a caller has left in a ledger as a rate: of what requests reserve until they are charged.

    :param amount: what is left.
    :param seconds: the time after which a reservation that was not given back counts no more.
    """
    limit, name, key = whole_amount(amount, SCALE), f"{unit} {BUDGET}", f"{unit}/credit"
    return Rate(limit, seconds * SECOND, name, key, unit, prefix, SCALE, BUDGET)


def _parse(entry: object, group: str, any_limit: bool, unit: str, prefix: str) -> Iterator[RateLimitItem | Rate]:
    """The rates of a text.

    :raises ValueError: for a text in another notation.
    """
    scale = _scale_of(unit)
    if not isinstance(entry, str) or _NO_WINDOW.search(entry):  # limits takes 0 minutes as one
        raise ValueError(entry)
    if scale == 1 and "calendar" not in entry:
        yield from parse_many(entry)
        return
    for part in _SEPARATOR.split(entry):
        if calendar := _CALENDAR.fullmatch(part):
            limit, period = _whole(calendar[1], scale), calendar[2]
            name, tail = _names(limit, scale, group, any_limit, unit, f"calendar-{period}")
            yield Rate(limit, _PERIOD_SECONDS[period] * SECOND, name, tail, unit, prefix, scale, period)
        elif amount := _AMOUNT.fullmatch(part):
            yield from parse_many(f"{_whole(amount[1], scale)}{amount[2]}")
        else:
            raise ValueError(part)


def _whole(text: str, scale: int) -> int:
    """An amount as it is counted.

    :raises ValueError: for more decimals than are counted.
    """
    number = Decimal(text) * scale
    if number != int(number):
        raise ValueError(text)
    return int(number)


def _names(limit: int, scale: int, group: str, any_limit: bool, unit: str, window: str) -> tuple[str, str]:
    """The name of a rate, and the last part of its store key. ``window`` is behind the last slash of both."""
    has_unit = unit != REQUESTS
    # Unit and group cannot be confused: a group begins with a slash or a star, or with a method and a space.
    parts = [*([unit] if has_unit else []), *([group] if group else []), "*" if any_limit else str(limit), window]
    return f"{scaled(limit, scale)}{f' {unit}' if has_unit else ''}/{window}", "/".join(parts)


def _rate(item: RateLimitItem, group: str, any_limit: bool, unit: str, prefix: str, scale: int) -> Rate:
    multiples, period = item.multiples, item.GRANULARITY.name
    name, tail = _names(item.amount, scale, group, any_limit, unit, period)
    if multiples != 1:
        name = f"{name.rpartition('/')[0]}/{multiples} {period}"
    tail = f"{tail.rpartition('/')[0]}/{multiples}/{period}"
    return Rate(item.amount, item.get_expiry() * SECOND, name, tail, unit, prefix, scale)
