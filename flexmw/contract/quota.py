"""Write rate-limit headers: one quota in three styles. :mod:`flexmw.contract.limit_headers` reads them back.

>>> quota = Quota(limit=10, remaining=0, reset_at=1034.2, wait=34.2, window=60)
>>> for name, value in render(quota, now=1000.0): print(f"{name}: {value}")
Retry-After: 35
retry-after-ms: 34200
x-ratelimit-limit-requests: 10
x-ratelimit-remaining-requests: 0
x-ratelimit-reset-requests: 1035
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from flexmw.contract.numbers import scaled

__all__ = ["HEADER_STYLES", "HeaderStyle", "Quota", "render", "retry_headers"]

HeaderStyle = Literal["unix", "openai", "ietf", "seed"]
"""A style of rate-limit headers: a key of :data:`HEADER_STYLES`."""

_AT_ONCE: Final = "concurrent-requests"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """The decision of a limiter about one request in one unit, with the values that the headers need.

    ``reset_at`` is in Unix seconds. ``wait`` is the time in seconds after which the same request would be admitted,
    exact to the millisecond; ``None`` when it was admitted. ``window`` is in seconds; 0 where the quota limits
    concurrent requests, or has no end. ``policy`` names the window. ``unit`` is what is counted: ``requests``,
    ``concurrent-requests``, ``tokens``. ``scale`` is the number that stands for one of the unit in ``limit`` and
    ``remaining``: 1 or 1,000,000. A ``reset_at`` of infinity is not sent.
    """

    limit: int
    remaining: int
    reset_at: float
    window: int
    wait: float | None = None
    policy: str = "requests"
    unit: str = "requests"
    scale: int = 1


def retry_headers(wait: float) -> list[tuple[str, str]]:
    """``Retry-After`` in whole seconds (at least 1) and ``retry-after-ms``, both rounded up: a client that obeys either
    comes back when the wait is over, never before."""
    milliseconds = max(1, math.ceil(round(wait * 1e3, 6)))
    return [("Retry-After", str(max(1, math.ceil(milliseconds / 1e3)))), ("retry-after-ms", str(milliseconds))]


def render(
    quota: Quota, *others: Quota, now: float, styles: Sequence[HeaderStyle] = ("unix",)
) -> list[tuple[str, str]]:
    """The headers of one quota or of one for each unit, retry headers first. Where two styles claim one name, the
    first named wins.

    On a refusal the reset moment of a quota with a ``wait`` is the moment at which a retry is admitted, in every
    style (draft-ietf-httpapi-ratelimit-headers: both SHOULD be the same point). Of several quotas that refuse, the
    longest wait is the one to obey. ``now`` is in Unix seconds.
    """
    quotas = (quota, *others)
    waits = [quota.wait for quota in quotas if quota.wait is not None]
    headers = retry_headers(max(waits)) if waits else []
    taken: set[str] = set()
    for style in styles:
        for name, value in HEADER_STYLES[style](quotas, now):
            if name not in taken:
                taken.add(name)
                headers.append((name, value))
    return headers


def _reset_after(quota: Quota, now: float) -> float:
    return max(0.0, quota.reset_at - now) if quota.wait is None else quota.wait


def _unix(quotas: Sequence[Quota], now: float) -> Iterator[tuple[str, str]]:
    return _counts(quotas, lambda quota: str(math.ceil(round(now + _reset_after(quota, now), 6))))


def _openai(quotas: Sequence[Quota], now: float) -> Iterator[tuple[str, str]]:
    return _counts(quotas, lambda quota: _go_duration(_reset_after(quota, now)))


def _counts(quotas: Sequence[Quota], reset: Callable[[Quota], str]) -> Iterator[tuple[str, str]]:
    """Three headers for each unit. A limit of concurrent requests is reported as a limit of requests, if there is no
    rate of requests."""
    units = {quota.unit for quota in quotas}
    for quota in quotas:
        unit = quota.unit
        if unit == _AT_ONCE:
            if "requests" in units:
                continue
            unit = "requests"
        yield f"x-ratelimit-limit-{unit}", scaled(quota.limit, quota.scale)
        yield f"x-ratelimit-remaining-{unit}", scaled(quota.remaining, quota.scale)
        if quota.reset_at < math.inf:
            yield f"x-ratelimit-reset-{unit}", reset(quota)


def _ietf(quotas: Sequence[Quota], now: float) -> Iterator[tuple[str, str]]:
    yield "RateLimit-Policy", ", ".join(map(_policy, quotas))
    yield (
        "RateLimit",
        ", ".join(
            f'"{quota.policy}";r={quota.remaining}'
            + (f";t={math.ceil(round(_reset_after(quota, now), 6))}" if quota.reset_at < math.inf else "")
            for quota in quotas
        ),
    )


def _policy(quota: Quota) -> str:
    # The draft allows whole numbers alone: of a unit that is not whole they are millionths.
    name = quota.unit if quota.scale == 1 else f"micro-{quota.unit}"
    unit = "" if quota.unit == "requests" else f';qu="{name}"'
    return f'"{quota.policy}";q={quota.limit}{unit}{f";w={quota.window}" if quota.window else ""}'


def _go_duration(seconds: float) -> str:
    """``12ms``, ``1s``, ``6m0s``: the form OpenAI sends, rounded up to the millisecond."""
    milliseconds = max(0, math.ceil(round(seconds * 1e3, 6)))
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    whole, rest = divmod(milliseconds, 1000)
    minutes, whole = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    tail = f"{whole}.{rest:03d}".rstrip("0") if rest else str(whole)
    return f"{hours}h{minutes}m{tail}s" if hours else f"{minutes}m{tail}s" if minutes else f"{tail}s"


HEADER_STYLES: Final[Mapping[HeaderStyle, Callable[[Sequence[Quota], float], Iterator[tuple[str, str]]]]] = {
    "unix": _unix,
    "openai": _openai,
    "ietf": _ietf,
    "seed": _unix,
}
"""The styles of rate-limit headers.

========== ===========================================================================================================
``unix``   ``x-ratelimit-limit-*``, ``-remaining-*`` and ``-reset-*``; the reset in Unix seconds, rounded up
``openai`` The same names; the reset as a duration, such as ``1m12s``
``ietf``   ``RateLimit`` and ``RateLimit-Policy`` structured fields (draft-ietf-httpapi-ratelimit-headers-10)
``seed``   Another name of ``unix``
========== ===========================================================================================================
"""
