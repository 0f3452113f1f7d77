"""The moment at which a rate limit resets, in each form that providers write it. Pure.

>>> reset_of("6m0s", now=0.0)
Reset(after=360.0, resolution=0.001, moment=False)
>>> reset_of("1800000000", now=1799999940.0)
Reset(after=60.0, resolution=1.0, moment=True)
>>> reset_of("soon", now=0.0) is None
True
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from flexmw.contract.dates import http_date, iso_time
from flexmw.contract.numbers import LARGEST, decimal

__all__ = ["Reset", "latest_reset", "reset_of", "reset_seconds"]

_UNIX_SECONDS: Final = 1e9
_UNIX_MILLISECONDS: Final = 1e12

_SECONDS_OF_UNIT: Final = {
    "d": 86400.0,
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}
_DURATION: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,18})?)(d|h|ms|m|s|us|µs|ns)")


@dataclass(frozen=True, slots=True)
class Reset:
    """When a limit resets.

    :param after: seconds from now.
    :param resolution: seconds of the last digit that the header has.
    :param moment: True if the header names a time by the server's clock, False if it names a duration. How far the
        server's clock differs from the client's decides how far ``after`` of a time can be trusted.
    """

    after: float
    resolution: float = 1.0
    moment: bool = False


def reset_of(value: str, *, now: float) -> Reset | None:
    """Read one reset: a duration, seconds, Unix seconds or milliseconds, or a time (RFC 3339, HTTP date).

    A number above 1e9 is a Unix time, one above 1e12 a Unix time in milliseconds, a smaller one seconds. A moment in
    the past is 0 seconds away.

    :param now: Unix seconds by the server's clock.
    """
    value = value.strip()
    if (number := decimal(value)) is not None:
        resolution = 10.0 ** -len(value.partition(".")[2])
        if number >= _UNIX_MILLISECONDS:
            return Reset(max(0.0, number / 1e3 - now), 0.001, moment=True)
        if number >= _UNIX_SECONDS:
            return Reset(max(0.0, number - now), resolution, moment=True)
        return Reset(number, resolution)
    parts = _DURATION.findall(value)
    if parts and "".join(amount + unit for amount, unit in parts) == value:
        seconds = sum(float(amount) * _SECONDS_OF_UNIT[unit] for amount, unit in parts)
        return Reset(min(seconds, LARGEST), 0.001)
    moment = iso_time(value) if value[:4].isdigit() else http_date(value)
    return None if moment is None else Reset(max(0.0, moment - now), 0.001 if "." in value else 1.0, moment=True)


def reset_seconds(value: str, *, now: float) -> float | None:
    """Return the seconds until the moment that a reset names; ``None`` if the value cannot be read.

    :param now: Unix seconds by the server's clock.
    """
    reset = reset_of(value, now=now)
    return None if reset is None else reset.after


def latest_reset(value: str | None, *, now: float) -> Reset | None:
    """Return the latest of the resets that a header names. A header that came several times has several.

    :param value: one value, or several joined by ``", "``. The comma of an HTTP date does not separate two values, so
        the whole value is read too.
    :param now: Unix seconds by the server's clock.
    """
    if not value:
        return None
    values = [value] if "," not in value else [value, *value.split(",")]
    resets = [reset for one_value in values if (reset := reset_of(one_value, now=now)) is not None]
    return max(resets, key=lambda reset: reset.after) if resets else None
