"""Rate-limit header reader: the limit that a response reports, and the precision of the report. Pure.

A reset is given as a duration in milliseconds, as a duration in whole seconds, or as a time by the server's clock,
rounded up. Only the ``Date`` header shows the offset of the server's clock. It has whole seconds and can be a second
old, so each response gives a lower bound of the offset, and the highest bound is kept. Limits of other units than
requests are ignored, because Pace does not know how many tokens a request will cost.

The forms of the headers are those of :mod:`flexmw.contract.limit_headers`.

>>> headers = {"x-ratelimit-limit": "9", "x-ratelimit-remaining": "4", "x-ratelimit-reset": "1m0s"}
>>> read_limit(headers, sent_at=1e9, received_at=1e9)[0]
RateReading(limit=9, remaining=4, reset_earliest=59.999, reset_latest=60.0, window_above=59.999, is_timestamp=False)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flexmw.contract import LimitReading, http_date, read_limits, tightest
from flexmw.kit.headers import has
from flexmw.pace.window import RateReading

__all__ = ["is_from_cache", "read_limit", "server_time"]

_DATE_AGE: Final = 2.0
"""Seconds that ``Date`` may lie in the past: one second because it is rounded down, and one because servers format it
once a second."""


def read_limit(
    headers: Mapping[str, str], sent_at: float, received_at: float, clock_offset: float | None = None
) -> tuple[RateReading | None, float | None]:
    """Return the limit that a response reports, and the new lower bound of the server's clock offset.

    If there are several limits of requests, the one with the smallest remaining share is returned.

    :param headers: response headers; names in lower case.
    :param sent_at: when the request was sent, Unix seconds by this machine's clock.
    :param received_at: when the response arrived, Unix seconds by this machine's clock.
    :param clock_offset: the lower bound from earlier responses, in seconds by which the server's clock is ahead of this
        machine's clock; ``None``: unknown.
    """
    date = http_date(headers.get("date", ""))
    if date is not None:
        plausible = clock_offset is not None and clock_offset <= date + _DATE_AGE - sent_at
        shown = date - received_at
        clock_offset = max(clock_offset, shown) if clock_offset is not None and plausible else shown
    now, took = received_at + (clock_offset or 0.0), received_at - sent_at
    limit = tightest(reading for reading in read_limits(headers, now=now) if _is_usable(reading))
    if limit is None or limit.remaining is None:
        return None, clock_offset
    requests, remaining = limit.limit or 0, limit.remaining
    if limit.reset is None:
        window = float(limit.window or 0)
        return RateReading(requests, remaining, -took, window, window - 1.0), clock_offset
    reset, unit = limit.reset.after, limit.reset.resolution
    if limit.reset.moment:
        latest_now = now if date is None else max(now, date + _DATE_AGE + took)
        earliest = reset - unit - (latest_now - now)
        return RateReading(requests, remaining, earliest, reset, reset + took - unit, True), clock_offset
    return RateReading(requests, remaining, reset - unit - took, reset, (limit.window or reset) - unit), clock_offset


def _is_usable(reading: LimitReading) -> bool:
    """True for a limit of requests with a count, and with a reset or a window.

    Whatever the algorithm of a server, it admits a further request within one window. Servers that do not know the
    duration of a reset send 0.
    """
    reset = reading.reset
    if reading.unit != "requests":
        return False
    return bool(reading.window) if reset is None else reset.moment or reset.after > 0


def server_time(headers: Mapping[str, str], sent_at: float, received_at: float) -> float:
    """Return the time of the server's clock by ``Date``, in Unix seconds. If this machine's clock agrees with it,
    return the time of this machine's clock, because ``Date`` has whole seconds only."""
    date = http_date(headers.get("date", ""))
    return received_at if date is None or sent_at - 1.0 < date <= received_at else date


def is_from_cache(headers: Mapping[str, str], extensions: Mapping[str, Any]) -> bool:
    """Return whether the response comes from a cache: its rate-limit headers are out of date.

    A shared cache sends ``Age`` (RFC 9111 section 5.1), hishel sets an extension of the response. Some caches send
    ``Age: 0`` with a response that they have just fetched.

    :param headers: response headers; names in lower case.
    :param extensions: the extensions of the response.
    """
    if has(headers, b"age") and (age := headers["age"].strip()).isascii() and age.isdigit() and age.strip("0"):
        return True
    if _FROM_CACHE.isdisjoint(extensions):
        return False
    status = extensions.get("caching")
    if isinstance(status, Mapping):
        return status.get("from_cache") is True
    return extensions.get("hishel_from_cache") is True or extensions.get("from_cache") is True


_FROM_CACHE: Final = frozenset({"caching", "from_cache", "hishel_from_cache"})
"""The extensions of hishel: 2 has a mapping in ``caching``, 0 and 1 have one of the others."""
