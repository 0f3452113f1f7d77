"""The values of the room: rates, decisions and what lies between. Pure.

>>> [rate.name for rate in rates_of(["10/minute", "1000 per 1 day"])]
['10/minute', '1000/day']
>>> rates_of("10/fortnight", "RateLimit(*rates)")
Traceback (most recent call last):
    ...
flexmw.errors.ConfigError: RateLimit(*rates) = '10/fortnight': expected rates such as '10/minute', '5 per 2 hour' or \
['10/minute', '1000/day']
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, cast

from limits import RateLimitItem, parse_many

from flexmw.errors import ConfigError

__all__ = ["REQUESTS", "SECOND", "TOKENS", "Decision", "Rate", "Slot", "Verdict", "rates_of"]

SECOND: Final = 1_000_000
"""Microseconds in a second."""

REQUESTS: Final = "requests"
TOKENS: Final = "tokens"
"""The units that are counted. Units other than requests have counters of their own."""


class Rate(NamedTuple):
    """``limit`` of ``unit`` per ``window`` microseconds.

    ``name`` is the rate as a text and its policy's name on the wire and in telemetry. ``tail`` is where its counters
    lie under a caller's part of a store key: the layout of ``limits``' ``RateLimitItem.key_for``. A ``window`` of 0
    is none: so many at once.
    """

    limit: int
    window: int
    name: str
    tail: str
    unit: str = REQUESTS

    @property
    def seconds(self) -> int:
        """The window in seconds."""
        return self.window // SECOND

    def key(self, digest: str, strategy: str) -> str:
        """The store key of a caller, as ``limits`` makes it of the identifiers ``{digest}`` and ``strategy``.

        The braces are what Redis Cluster hashes, so that all windows of a caller lie on one node.
        """
        return f"LIMITER/{{{digest}}}/{strategy}/{self.tail}"


class Slot(NamedTuple):
    """One of ``most`` places that a caller has at once, asked for by the holder ``name``. Where a holder may die
    without giving it back, it is free after ``lease`` microseconds without being renewed."""

    name: str
    most: int
    lease: int

    @property
    def rate(self) -> Rate:
        """The limit that the slots are, as a rate without a window."""
        return Rate(self.most, 0, f"{self.most} at once", f"slots/{self.most}", "concurrent-requests")


class Decision(NamedTuple):
    """What was decided about one request.

    Of several windows it is the one that denies, else the tightest; ``others`` are those of the other units, of each
    the tightest. ``retry_after`` is in seconds, exact to the
    microsecond, and 0.0 when the request was allowed; ``reset_at`` is Unix seconds: when the request would be admitted,
    or, when it was, when the window ends. ``policy`` names the window, ``window`` is its length in seconds.
    ``degraded`` says that the store did not answer and this process decided alone: exactness is promised while it is
    false. ``limit`` 0 means that nobody counted (``on_store_failure="open"``).
    """

    allowed: bool
    limit: int
    remaining: int
    retry_after: float
    reset_at: float
    policy: str
    window: int
    degraded: bool = False
    unit: str = REQUESTS
    others: tuple[Decision, ...] = ()


class Verdict(NamedTuple):
    """The same relative to the moment of decision, in microseconds: ``wait`` 0 means allowed."""

    rate: Rate
    remaining: int
    wait: int
    reset: int
    others: tuple[Verdict, ...] = ()


def rates_of(
    value: object, option: str = "rates", *, group: str = "", any_limit: bool = False, unit: str = REQUESTS
) -> tuple[Rate, ...]:
    """Rates from ``"10/minute"``, ``"10/minute; 1000/day"``, a ``limits`` item or a list of them.

    :param group: counts them apart from the same rates of other groups. :param unit: what is counted.
    :param any_limit: leaves the limit out of the store key, so that a caller whose limit changes keeps their usage.

    :raises ConfigError: naming ``option``, the value and what would be right: a text that is no rate, an amount of 0,
        two rates over one window (the smaller would decide alone).
    """
    expected = "rates such as '10/minute', '5 per 2 hour' or ['10/minute', '1000/day']"
    items: list[RateLimitItem] = []
    several: Sequence[object] = cast("Sequence[object]", value) if isinstance(value, (list, tuple)) else [value]
    for each in several:
        if isinstance(each, RateLimitItem):
            items.append(each)
            continue
        try:
            items.extend(parse_many(cast("str", each)))
        except ValueError:
            raise ConfigError(option, each, expected) from None
    if not items:
        raise ConfigError(option, several, expected)
    rates = tuple(_rate(item, group, any_limit, unit) for item in items)
    for rate in rates:
        if rate.limit < 1 or rate.window < 1:
            raise ConfigError(option, rate.name, f"an amount and a window of at least 1: {expected}")
        if sum(other.window == rate.window for other in rates) > 1:
            raise ConfigError(
                option, several, f"one rate per window; several take {rate.seconds} s and the smallest rules"
            )
    return rates


def _rate(item: RateLimitItem, group: str, any_limit: bool, unit: str) -> Rate:
    multiples = "" if item.multiples == 1 else f"{item.multiples} "
    period, other = item.GRANULARITY.name, unit != REQUESTS
    # A group begins with a slash, a star or a method and a space: no unit is taken for one.
    parts = [*([unit] if other else []), *([group] if group else [])]
    return Rate(
        item.amount,
        item.get_expiry() * SECOND,
        f"{item.amount}{f' {unit}' if other else ''}/{multiples}{period}",
        "/".join([*parts, "*" if any_limit else str(item.amount), str(item.multiples), period]),
        unit,
    )
