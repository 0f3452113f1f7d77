"""Durations in response headers: how long a client is asked to wait, and for how long a server honours a key.

>>> wait_of({"retry-after": "34"}, now=0.0)
Wait(seconds=34.0, source='retry-after')
>>> wait_of({"x-ratelimit-reset-requests": "6m0s"}, now=0.0)
Wait(seconds=360.0, source='reset')
>>> wait_of({}, now=0.0) is None
True
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal

__all__ = ["Wait", "http_date", "key_ttl", "reset_seconds", "wait_of"]

_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,18})?)(h|ms|m|s|us|µs|ns)")
_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_DAY: Final = re.compile(r"\s*(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*", re.IGNORECASE)
_LONGEST: Final = 1e18
_UNIX_SECONDS: Final = 1e9
_UNIX_MILLISECONDS: Final = 1e12
_RESETS: Final = ("x-ratelimit-reset-requests", "x-ratelimit-reset-tokens", "x-ratelimit-reset", "ratelimit-reset")


@dataclass(frozen=True, slots=True)
class Wait:
    """``seconds`` to wait (0 or more) and the header that names them."""

    seconds: float
    source: Literal["retry-after-ms", "retry-after", "reset"]


def wait_of(headers: Mapping[str, str], *, now: float) -> Wait | None:
    """The wait that a response asks for; ``None`` where it names no readable wait.

    Precedence: ``retry-after-ms``, then ``Retry-After`` (RFC 9110 section 10.2.3: seconds or a date; fractions are
    read as well), then a reset header. Of a repeated header the longest wait counts. A date is compared with the
    response's own ``Date``, so that a wrong clock on either side does not matter. Zero, negative and unreadable values
    are ignored; a number may have any length.

    :param headers: names in lower case; several lines of one name joined by ``", "``, as httpx's ``Headers`` does.
    :param now: Unix seconds; used for dates where the response has no ``Date``.
    """
    date = http_date(headers.get("date", ""))
    date = now if date is None else date
    milliseconds = [seconds / 1e3 for seconds in map(_number, _split(headers.get("retry-after-ms"))) if seconds]
    if milliseconds:
        return Wait(max(milliseconds), "retry-after-ms")
    value = headers.get("retry-after")
    waits = [wait for wait in (_retry_after(part, date) for part in _split(value)) if wait is not None]
    if waits:
        return Wait(max(waits), "retry-after")
    resets = [wait for wait in (reset_seconds(headers.get(name, ""), now=date) for name in _RESETS) if wait is not None]
    return Wait(max(resets), "reset") if resets else None


def reset_seconds(value: str, *, now: float) -> float | None:
    """Seconds until a limit resets, from the value of a reset header of any provider.

    A value with a unit is a duration (``12ms``, ``6m0s``). A number above 1e12 is a Unix time in milliseconds, a number
    above 1e9 is a Unix time in seconds, a smaller number is seconds. A moment in the past is 0.
    """
    value = value.strip()
    if (number := _number(value)) is not None:
        if number >= _UNIX_MILLISECONDS:
            return max(0.0, number / 1e3 - now)
        return max(0.0, number - now) if number >= _UNIX_SECONDS else number
    parts = _DURATION.findall(value)
    if not parts or "".join(amount + unit for amount, unit in parts) != value:
        return None
    return sum(float(amount) * _UNITS[unit] for amount, unit in parts)


def http_date(value: str) -> float | None:
    """An HTTP date (RFC 9110 section 5.6.7) as Unix seconds; ``None`` when the value is not a date."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return (moment if moment.tzinfo else datetime.combine(moment.date(), moment.time(), UTC)).timestamp()


def key_ttl(value: str) -> float | None:
    """``Idempotency-Key-TTL``: for how many seconds a server honours a key; ``None`` when it is not a whole number.

    >>> key_ttl("604800")
    604800.0
    """
    return _number(value) if value.isascii() and value.isdigit() else None


def _retry_after(value: str, date: float) -> float | None:
    if (seconds := _number(value)) is not None:
        return seconds or None
    moment = http_date(value)
    return moment - date if moment is not None and moment > date else None


def _number(value: str) -> float | None:
    return min(float(value), _LONGEST) if _NUMBER.fullmatch(value) else None


def _split(value: str | None) -> list[str]:
    """The values of a repeated header. The comma inside a date does not separate two values."""
    if not value:
        return []
    parts: list[str] = []
    for part in value.split(","):
        if parts and _DAY.fullmatch(parts[-1]):
            parts[-1] += "," + part
        else:
            parts.append(part)
    return [part.strip() for part in parts]
