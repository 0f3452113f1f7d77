"""The reader of rate-limit headers: what a response reports about a limit, and how exact that is. Pure.

A reset is given as a duration in milliseconds, as a duration in whole seconds, or as a Unix time by the server's clock,
rounded up. Only the ``Date`` header shows the offset of the server's clock. It has whole seconds and can be a second
old, so each response gives a lower bound of the offset, and the highest bound is kept. Quotas of other units than
requests are ignored, because Pace does not know how many tokens a request will cost.

The formats are those of :mod:`flexmw.contract`: the ``X-RateLimit-*`` headers, and ``RateLimit`` with
``RateLimit-Policy`` (draft-ietf-httpapi-ratelimit-headers).

>>> headers = {"x-ratelimit-limit": "9", "x-ratelimit-remaining": "4", "x-ratelimit-reset": "1m0s"}
>>> read_limit(headers, sent_at=1e9, received_at=1e9)[0]
RateReading(limit=9, remaining=4, reset_earliest=59.999, reset_latest=60.0, window_above=59.999, is_timestamp=False)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from flexmw.contract import http_date, read
from flexmw.pace.window import RateReading

__all__ = ["read_limit", "server_time"]

_DATE_AGE: Final = 2.0
"""Seconds that ``Date`` may lie in the past: one for its rounding, one for servers that format it once a second."""

_RESETS: Final = ("x-ratelimit-reset-requests", "x-ratelimit-reset")
_COUNTS: Final = frozenset(
    f"x-ratelimit-{part}{unit}" for part in ("limit", "remaining", "reset") for unit in ("-requests", "")
)
_ITEM: Final = re.compile(r'"([^"]{0,100})"((?:; {0,8}[a-z]{1,8}=[^;,]{1,64}){1,8})')


def read_limit(
    headers: Mapping[str, str], sent_at: float, received_at: float, clock_offset: float | None = None
) -> tuple[RateReading | None, float | None]:
    """The limit that a response reports, and the new lower bound of the server's clock offset.

    :param headers: response headers; names in lower case.
    :param sent_at: when the request was sent, Unix seconds by this machine's clock.
    :param received_at: when the response arrived, Unix seconds by this machine's clock.
    :param clock_offset: seconds by which the server's clock is ahead of this machine's, at least, as earlier responses
        have shown; ``None``: unknown.
    """
    date = http_date(headers.get("date", ""))
    if date is not None:
        plausible = clock_offset is not None and clock_offset <= date + _DATE_AGE - sent_at
        shown = date - received_at
        clock_offset = max(clock_offset, shown) if clock_offset is not None and plausible else shown
    now = received_at + (clock_offset or 0.0)
    counts = {name: value for name, value in headers.items() if name in _COUNTS}
    quota = read(counts, now=now)
    if quota is None:
        return _read_ietf(headers, received_at - sent_at), clock_offset
    if quota.reset_after is None:
        return None, clock_offset
    limit, reset, took = quota.limit or 0, quota.reset_after, received_at - sent_at
    a_second_ago = read(counts, now=now - 1.0)
    if a_second_ago is not None and a_second_ago.reset_after != reset:  # a timestamp: a duration would be the same
        latest_now = now if date is None else max(now, date + _DATE_AGE + took)
        earliest = reset - 1.0 - (latest_now - now)
        return RateReading(limit, quota.remaining, earliest, reset, reset + took - 1.0, True), clock_offset
    unit = 0.001 if any(headers.get(name, "")[-1:].isalpha() for name in _RESETS) else 1.0
    return RateReading(limit, quota.remaining, reset - unit - took, reset, reset - unit), clock_offset


def _read_ietf(headers: Mapping[str, str], took: float) -> RateReading | None:
    """``RateLimit`` with the ``RateLimit-Policy`` of the same name: of several request quotas, the one with the
    smallest share left."""
    policies = dict(_items(headers.get("ratelimit-policy", "")))
    readings: list[RateReading] = []
    for name, fields in _items(headers.get("ratelimit", "")):
        policy = policies.get(name, {})
        remaining, reset = fields.get("r", -1), fields.get("t", -1)
        if "qu" in policy or min(remaining, reset) < 0:
            continue
        window = policy.get("w", 0)
        limit = policy.get("q", 0) if window else 0
        readings.append(RateReading(limit, remaining, reset - 1.0 - took, float(reset), (window or reset) - 1.0))
    return min(readings, key=lambda reading: reading.remaining / max(1, reading.limit)) if readings else None


def _items(value: str) -> Iterator[tuple[str, dict[str, int]]]:
    """Names with their parameters. A parameter that is not a whole number is -1. ``qu="requests"`` is left out,
    because requests are the default unit."""
    for name, parameters in _ITEM.findall(value[:4096]):
        pairs = (item.strip().split("=", 1) for item in parameters[1:].split(";"))
        texts = {key: text.strip() for key, text in pairs}
        if texts.get("qu") == '"requests"':
            del texts["qu"]
        yield name, {key: int(text) if text.isascii() and text.isdigit() else -1 for key, text in texts.items()}


def server_time(headers: Mapping[str, str], sent_at: float, received_at: float) -> float:
    """The server's clock as ``Date`` shows it, Unix seconds. This machine's clock is preferred where the two agree,
    because ``Date`` has whole seconds only."""
    date = http_date(headers.get("date", ""))
    return received_at if date is None or sent_at - 1.0 < date <= received_at else date
