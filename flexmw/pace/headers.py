"""What the headers of an answer say of a limit, with how far it can be trusted. Pure.

A reset is a duration to the millisecond, whole seconds, or a moment by the server's own clock, rounded up. How far that
clock is ahead of ours is known from ``Date`` only, which has whole seconds and may be a second old: each answer gives a
lower bound, and the highest of them is kept. Quotas of anything but requests are passed over: what a request will cost
in tokens is not known here.

>>> word, _ = word_of({"x-ratelimit-limit": "9", "x-ratelimit-remaining": "4", "x-ratelimit-reset": "1m0s"}, 1e9, 1e9)
>>> word
Word(limit=9, remaining=4, soonest=59.999, latest=60.0, lasts=59.999, moment=False)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from flexmw.contract import http_date, read
from flexmw.pace.window import Word

__all__ = ["server_now", "word_of"]

_STALE: Final = 2.0
"""Seconds that ``Date`` may lie back: one that it was rounded down by, one that a server keeps it for."""

_RESETS: Final = ("x-ratelimit-reset-requests", "x-ratelimit-reset")
_COUNTS: Final = frozenset(
    f"x-ratelimit-{part}{unit}" for part in ("limit", "remaining", "reset") for unit in ("-requests", "")
)
_ITEM: Final = re.compile(r'"([^"]{0,100})"((?:; {0,8}[a-z]{1,8}=[^;,]{1,64}){1,8})')


def word_of(
    headers: Mapping[str, str], sent: float, received: float, ahead: float | None = None
) -> tuple[Word | None, float | None]:
    """What an answer tells, and how far the server's clock is ahead of ours at least.

    :param headers: names in lower case. :param sent: and ``received``: Unix seconds by our clock.
    :param ahead: what earlier answers taught; ``None``: nothing.
    """
    date = http_date(headers.get("date", ""))
    if date is not None:
        believable = ahead is not None and ahead <= date + _STALE - sent
        ahead = max(ahead, date - received) if ahead is not None and believable else date - received
    now = received + (ahead or 0.0)
    counts = {name: value for name, value in headers.items() if name in _COUNTS}
    seen = read(counts, now=now)
    if seen is None:
        return _ietf(headers, received - sent), ahead
    if seen.reset_after is None:
        return None, ahead
    limit, after, took = seen.limit or 0, seen.reset_after, received - sent
    shifted = read(counts, now=now - 1.0)
    if shifted is not None and shifted.reset_after != after:  # a moment, not a duration
        latest_now = now if date is None else max(now, date + _STALE + took)
        return Word(limit, seen.remaining, after - 1.0 - (latest_now - now), after, after + took - 1.0, True), ahead
    exact = 0.001 if any(headers.get(name, "")[-1:].isalpha() for name in _RESETS) else 1.0
    return Word(limit, seen.remaining, after - exact - took, after, after - exact), ahead


def _ietf(headers: Mapping[str, str], took: float) -> Word | None:
    """``RateLimit`` with what ``RateLimit-Policy`` says of the same name: the tightest quota of requests."""
    policies = dict(_items(headers.get("ratelimit-policy", "")))
    words: list[Word] = []
    for name, fields in _items(headers.get("ratelimit", "")):
        policy = policies.get(name, {})
        remaining, after = fields.get("r", -1), fields.get("t", -1)
        if "qu" in policy or min(remaining, after) < 0:
            continue
        window = policy.get("w", 0)
        limit = policy.get("q", 0) if window else 0
        words.append(Word(limit, remaining, after - 1.0 - took, float(after), (window or after) - 1.0))
    return min(words, key=lambda word: word.remaining / max(1, word.limit)) if words else None


def _items(value: str) -> Iterator[tuple[str, dict[str, int]]]:
    """Names with their parameters, those that are no whole numbers as -1; ``qu="requests"`` is what goes without."""
    for name, parameters in _ITEM.findall(value[:4096]):
        pairs = (item.strip().split("=", 1) for item in parameters[1:].split(";"))
        texts = {key: text.strip() for key, text in pairs}
        if texts.get("qu") == '"requests"':
            del texts["qu"]
        yield name, {key: int(text) if text.isascii() and text.isdigit() else -1 for key, text in texts.items()}


def server_now(headers: Mapping[str, str], sent: float, received: float) -> float:
    """The server's clock as a response shows it; our own where the two agree: ``Date`` has whole seconds only."""
    date = http_date(headers.get("date", ""))
    return received if date is None or sent - 1.0 < date <= received else date
