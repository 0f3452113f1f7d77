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

from collections.abc import Sequence
from typing import Final, TypeAlias, cast

from limits import RateLimitItem, parse_many

from flexmw.errors import ConfigError
from flexmw.ratelimit.core import REQUESTS, SECOND, Rate

__all__ = ["Rates", "parse_rates"]

Rates: TypeAlias = tuple[Rate, ...]
_EXPECTED: Final = "rates such as '10/minute', '5 per 2 hour' or ['10/minute', '1000/day']"


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
    items: list[RateLimitItem] = []
    values: Sequence[object] = cast("Sequence[object]", value) if isinstance(value, (list, tuple)) else [value]
    for entry in values:
        if isinstance(entry, RateLimitItem):
            items.append(entry)
            continue
        try:
            items.extend(parse_many(cast("str", entry)))
        except ValueError:
            raise ConfigError(option, entry, _EXPECTED) from None
    if not items:
        raise ConfigError(option, values, _EXPECTED)
    rates = tuple(_rate(item, group, any_limit, unit, prefix) for item in items)
    for rate in rates:
        if rate.limit < 1 or rate.window_us < 1:
            raise ConfigError(option, rate.name, f"an amount and a window of at least 1: {_EXPECTED}")
        if sum(other.window_us == rate.window_us for other in rates) > 1:
            raise ConfigError(
                option, values, f"one rate per window; several take {rate.seconds} s and the smallest rules"
            )
    return rates


def _rate(item: RateLimitItem, group: str, any_limit: bool, unit: str, prefix: str) -> Rate:
    multiples = "" if item.multiples == 1 else f"{item.multiples} "
    period, has_unit = item.GRANULARITY.name, unit != REQUESTS
    # Unit and group cannot be confused: a group begins with a slash or a star, or with a method and a space.
    parts = [*([unit] if has_unit else []), *([group] if group else [])]
    return Rate(
        item.amount,
        item.get_expiry() * SECOND,
        f"{item.amount}{f' {unit}' if has_unit else ''}/{multiples}{period}",
        "/".join([*parts, "*" if any_limit else str(item.amount), str(item.multiples), period]),
        unit,
        prefix,
    )
