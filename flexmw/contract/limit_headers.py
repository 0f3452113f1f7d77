"""Read the rate-limit headers of a response, in every form that providers send. Pure.

The table of the forms is :data:`flexmw.contract.limit_forms.FORMS`. :func:`read_limits` returns one
:class:`LimitReading` for each dimension (requests, tokens, a named policy) that the headers describe.

>>> headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1s",
...            "x-ratelimit-remaining-tokens": "149984", "x-ratelimit-reset-tokens": "6m0s"}
>>> [(reading.unit, reading.remaining, reading.reset_after) for reading in read_limits(headers, now=0.0)]
[('requests', 0, 1.0), ('tokens', 149984, 360.0)]
>>> reset_wait(read_limits(headers, now=0.0))
1.0
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from flexmw.contract.limit_forms import FORMS, Form
from flexmw.contract.numbers import decimal, whole_number
from flexmw.contract.resets import Reset, latest_reset
from flexmw.contract.structured_fields import dictionary, items

__all__ = ["FORMS", "Form", "LimitReading", "read_limits", "reset_wait", "tightest"]

_VALUE_CHARACTERS: Final = 4096
"""A longer value is not read: no provider sends one, and a reader must not spend time on a hostile one."""

_WINDOWS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800, "month": 2592000}
_UNIT_NAMES: Final = {"": "requests", "req": "requests", "request": "requests", "token": "tokens"}
_WHOLE_UNITS: Final = frozenset({"requests", "tokens"})
"""Units whose smallest amount is one."""


@dataclass(frozen=True, slots=True)
class LimitReading:
    """One limit as a response describes it; a part that the response leaves out is ``None``.

    ``dimension`` is the name as sent (``"tokens-minute"``, a policy's name, ``""`` where there is none), ``unit`` what
    is counted (``"requests"``, ``"tokens"``, ...), ``window`` the length of the window in seconds.
    """

    dimension: str
    unit: str = "requests"
    limit: int | None = None
    remaining: int | None = None
    reset: Reset | None = None
    window: int | None = None

    @property
    def reset_after(self) -> float | None:
        """Seconds from now until the limit resets."""
        return None if self.reset is None else self.reset.after


def read_limits(headers: Mapping[str, str], *, now: float) -> tuple[LimitReading, ...]:
    """Read each limit that a response describes, in the order of its headers; empty where it describes none.

    A field that cannot be read is ``None``; a limit of which nothing can be read is left out.

    :param headers: names in lower case; several lines of one name joined by ``", "``.
    :param now: Unix seconds by the clock of the server: the response's own ``Date`` where it has one.
    """
    families: dict[tuple[str, str], dict[str, str]] = {}
    fields = ""
    for name, value in headers.items():
        if "limit" not in name or len(value) > _VALUE_CHARACTERS:
            continue
        if name == "ratelimit":
            fields = value
        elif (place := _place_of(name)) is not None:
            family, dimension, part = place
            families.setdefault((family, dimension), {})[part] = value
    readings = [
        replace(reading, unit=_FIXED_UNITS[prefix]) if prefix in _FIXED_UNITS else reading
        for (prefix, dimension), parts in families.items()
        if (reading := _reading(dimension, parts, now)) is not None
    ]
    if fields:
        readings += _structured(fields, headers.get("ratelimit-policy", "")[:_VALUE_CHARACTERS])
    return tuple(readings)


def tightest(readings: Iterable[LimitReading]) -> LimitReading | None:
    """Return the limit with the smallest share left, of equals the one that resets last; ``None`` where no
    ``remaining`` is known."""
    known = [reading for reading in readings if reading.remaining is not None]
    return min(known, key=_slack) if known else None


def reset_wait(readings: Iterable[LimitReading]) -> float | None:
    """Return the seconds until a refused request can be admitted; ``None`` where the headers do not say.

    The limits that are used up decide, by the longest reset among them. Where none is used up, all limits decide:
    the response does not say which one refused. A reset of 0 or in the past is ignored: some providers send 0 where
    they do not know the reset (Azure OpenAI's ``x-ratelimit-reset-tokens: 0``).
    """
    known = list(readings)
    used_up = [reading for reading in known if reading.remaining == 0]
    return max((reading.reset_after or 0.0 for reading in used_up or known), default=0.0) or None


def _slack(reading: LimitReading) -> tuple[float, float]:
    """A sort key: the tightest limit has the smallest. A limit without a reset is open for as long as its window."""
    after = reading.reset_after if reading.reset_after is not None else reading.window or 0
    return (reading.remaining or 0) / max(1, reading.limit or 1), -after


_PARTS: Final = ("limit", "remaining", "reset")
_FIXED_UNITS: Final = {form.prefix: form.unit for form in FORMS if form.unit}
_PREFIXES: Final = tuple(dict.fromkeys((form.prefix, form.layout) for form in FORMS if form.layout != "structured"))


def _place_of(name: str) -> tuple[str, str, str] | None:
    """Prefix, dimension and part of a header; ``None`` for a header that describes no limit."""
    for prefix, layout in _PREFIXES:
        if not name.startswith(prefix):
            continue
        rest = name[len(prefix) :]
        if layout == "dimension-part":
            dimension, _, part = rest.rpartition("-")
        else:
            part, _, dimension = rest.partition("-")
        if (part, dimension) == ("reset", "after"):
            return prefix, "", "reset-after"
        if part in _PARTS:
            return prefix, dimension, part
    return None


def _reading(dimension: str, parts: Mapping[str, str], now: float) -> LimitReading | None:
    unit, window = _unit_of(dimension)
    # A part of a request is none, but a part of a dollar is some: a limit of money is not used up before it is 0.
    is_rounded_up = unit not in _WHOLE_UNITS
    limit = _counts(parts.get("limit"), is_rounded_up=is_rounded_up)
    remaining = _counts(parts.get("remaining"), is_rounded_up=is_rounded_up)
    reset = latest_reset(parts.get("reset-after"), now=now) or latest_reset(parts.get("reset"), now=now)
    if not limit and not remaining and reset is None:
        return None
    lengths = [length for _, length in limit or remaining if length is not None]
    return LimitReading(
        dimension,
        unit,
        limit=limit[0][0] if limit else None,
        remaining=min(count for count, _ in remaining) if remaining else None,
        reset=reset,
        window=lengths[0] if lengths else window,
    )


def _unit_of(dimension: str) -> tuple[str, int | None]:
    """``"tokens-minute"`` counts tokens in windows of 60 seconds."""
    unit, _, last = dimension.rpartition("-")
    window = _WINDOWS.get(last)
    if window is None:
        unit = dimension
    return _UNIT_NAMES.get(unit, unit), window


def _counts(value: str | None, *, is_rounded_up: bool = False) -> list[tuple[int, int | None]]:
    """Whole counts, with the window that a ``w`` parameter names: ``"100;w=21600"`` is ``[(100, 21600)]``.

    :param is_rounded_up: round a count with decimals up; otherwise it is rounded down.
    """
    counts: list[tuple[int, int | None]] = []
    for member in (value or "").split(","):
        text, *parameters = (piece.strip() for piece in member.split(";"))
        number = decimal(text)
        count = whole_number(text.partition(".")[0]) if number is not None else None
        if count is not None and is_rounded_up and number is not None and number > count:
            count += 1
        if count is not None:
            windows = [whole_number(piece[2:].strip()) for piece in parameters if piece.startswith("w=")]
            counts.append((count, windows[0] if windows else None))
    return counts


def _structured(value: str, policy: str) -> Iterator[LimitReading]:
    """The ``RateLimit`` field: a dictionary in draft 07, a list of named limits from draft 08 on."""
    draft_07 = dictionary(value)
    if draft_07.keys() & {"remaining", "reset"}:
        parts: dict[str, str] = {part: draft_07[part] for part in _PARTS if part in draft_07}
        windows = _counts(policy)
        if (reading := _reading("", parts, 0.0)) is not None:
            yield replace(reading, window=windows[0][1] if windows else None)
        return
    policies = dict(items(policy))
    for name, parameters in items(value):
        own = policies.get(name, {})
        remaining, after = whole_number(parameters.get("r")), decimal(parameters.get("t", ""))
        if remaining is None:
            continue
        unit = (own.get("qu") or parameters.get("qu") or "requests").strip('"')
        reset = None if after is None else Reset(after)
        yield LimitReading(name, unit, whole_number(own.get("q")), remaining, reset, whole_number(own.get("w")) or None)
