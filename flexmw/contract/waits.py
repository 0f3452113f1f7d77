"""Durations in response headers: how long a client is asked to wait, and for how long a server honours a key.

>>> wait_of({"retry-after": "34"}, now=0.0)
Wait(seconds=34.0, source='retry-after')
>>> wait_of({"x-ratelimit-reset-requests": "6m0s"}, now=0.0)
Wait(seconds=360.0, source='reset')
>>> wait_of({}, now=0.0) is None
True
>>> wait_of({"x-ratelimit-reset-requests": "6m0s"}, now=0.0, status=503) is None
True
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from flexmw.contract.dates import http_date
from flexmw.contract.limit_headers import read_limits, reset_wait
from flexmw.contract.numbers import decimal

__all__ = ["Wait", "key_ttl", "longest_line", "names_wait", "wait_of"]

_DAY: Final = re.compile(r"\s*(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*", re.IGNORECASE)
_RATE_LIMITED: Final = 429
_MILLISECONDS: Final = ("retry-after-ms", "x-ms-retry-after-ms")


@dataclass(frozen=True, slots=True)
class Wait:
    """``seconds`` to wait (0 or more) and what names them: a header, or the ``RetryInfo`` of an error body."""

    seconds: float
    source: Literal["retry-after-ms", "retry-after", "reset", "retry-info"]


def wait_of(headers: Mapping[str, str], *, now: float, status: int = 429) -> Wait | None:
    """The wait that a response asks for; ``None`` where it names no readable wait.

    Precedence: ``retry-after-ms``, then ``Retry-After`` (RFC 9110 section 10.2.3: seconds or a date; fractions are read
    as well), then a reset header. Of a repeated header the longest wait counts. A date is compared with the response's
    own ``Date``, so that a wrong clock on either side does not matter. Of several ``Date`` headers the earliest counts
    (uvicorn and hypercorn add one to that of the app). Zero, negative and unreadable values are ignored; a number may
    have any length.

    :param headers: names in lower case; several lines of one name joined by ``", "``, as httpx's ``Headers`` does.
    :param now: Unix seconds; used for dates where the response has no ``Date``.
    :param status: the status of the response. Only a 429 is refused by a limit: of any other status, an overload for
        example, a reset names no wait. Many servers send it with each response.
    """
    dates = [date for part in _split(headers.get("date")) if (date := http_date(part)) is not None]
    date = min(dates, default=now)
    for name in _MILLISECONDS:
        waits_ms = [wait_ms for wait_ms in map(decimal, _split(headers.get(name))) if wait_ms]
        if waits_ms:
            return Wait(max(waits_ms) / 1e3, "retry-after-ms")
    value = headers.get("retry-after")
    waits = [wait for wait in (_retry_after(part, date) for part in _split(value)) if wait is not None]
    if waits:
        return Wait(max(waits), "retry-after")
    reset = reset_wait(read_limits(headers, now=date)) if status == _RATE_LIMITED else None
    return None if reset is None else Wait(reset, "reset")


def longest_line(values: Sequence[str], *, now: float, date: str = "") -> str | None:
    """The value of a repeated ``Retry-After`` or ``retry-after-ms`` that asks for the longest wait.

    A client that reads only one of several lines would come back too early.

    >>> longest_line(["5", "60"], now=0.0), longest_line(["5, 60", "soon"], now=0.0), longest_line(["0"], now=0.0)
    ('60', '60', None)

    :param values: the lines.
    :param now: Unix seconds; used for dates where ``date`` is empty.
    :param date: the response's ``Date``.
    :returns: ``None`` if no line names a wait.
    """
    sent = http_date(date)
    waits = [
        (wait, part)
        for part in _split(", ".join(values))
        if (wait := _retry_after(part, now if sent is None else sent)) is not None
    ]
    return max(waits)[1] if waits else None


def names_wait(headers: Mapping[str, str]) -> bool:
    """Whether a response says when to come back, also where it says "at once": ``Retry-After: 0`` and a date that is
    past are valid (RFC 9110 section 10.2.3).

    :param headers: names in lower case.
    """
    if any(decimal(value) is not None for name in _MILLISECONDS if (value := headers.get(name))):
        return True
    return any(
        decimal(value) is not None or http_date(value) is not None for value in _split(headers.get("retry-after"))
    )


def key_ttl(value: str) -> float | None:
    """``Idempotency-Key-TTL``: for how many seconds a server honours a key; ``None`` when it is not a whole number.

    >>> key_ttl("604800")
    604800.0
    """
    return decimal(value) if value.isascii() and value.isdigit() else None


def _retry_after(value: str, date: float) -> float | None:
    if (seconds := decimal(value)) is not None:
        return seconds or None
    moment = http_date(value)
    return moment - date if moment is not None and moment > date else None


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
