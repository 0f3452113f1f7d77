"""Read the rate-limit headers of a response, in every form that providers send. Pure.

One table, :data:`FORMS`, names the forms; ``docs/limit-headers.md`` is made from it. :func:`read_limits` returns one
:class:`LimitReading` for each dimension (requests, tokens, a named policy) that the headers describe.

>>> headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1s",
...            "x-ratelimit-remaining-tokens": "149984", "x-ratelimit-reset-tokens": "6m0s"}
>>> [(reading.unit, reading.remaining, reading.reset_after) for reading in read_limits(headers, now=0.0)]
[('requests', 0, 1.0), ('tokens', 149984, 360.0)]
>>> reset_wait(read_limits(headers, now=0.0))
1.0
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from flexmw.contract.dates import http_date, iso_time

__all__ = [
    "FORMS",
    "Form",
    "LimitReading",
    "Reset",
    "read_limits",
    "reset_of",
    "reset_seconds",
    "reset_wait",
    "tightest",
]

_LONGEST: Final = 1e18
_UNIX_SECONDS: Final = 1e9
_UNIX_MILLISECONDS: Final = 1e12
_VALUE_CHARACTERS: Final = 4096
"""A longer value is not read: no provider sends one, and a reader must not spend time on a hostile one."""

_UNITS: Final = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,18})?)(d|h|ms|m|s|us|µs|ns)")
_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_WINDOWS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800, "month": 2592000}
_UNIT_NAMES: Final = {"": "requests", "req": "requests", "request": "requests", "token": "tokens"}


@dataclass(frozen=True, slots=True)
class Form:
    """One way in which providers write limits.

    ``prefix`` is what the header names begin with. ``layout`` says what follows the prefix: ``"part-dimension"``
    (``limit-requests``), ``"dimension-part"`` (``requests-limit``), or ``"structured"``: one header that holds
    everything. ``example`` holds header lines, ``reset`` the forms of the reset value, ``senders`` the providers and
    servers that use the form.
    """

    name: str
    prefix: str
    layout: Literal["part-dimension", "dimension-part", "structured"]
    example: tuple[tuple[str, str], ...]
    reset: str
    senders: str


FORMS: Final = (
    Form(
        "`x-ratelimit-*-<dimension>`",
        "x-ratelimit-",
        "part-dimension",
        (
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "59"),
            ("x-ratelimit-reset-requests", "1s"),
        ),
        "a duration, seconds, or Unix seconds; the dimension may end in a window, as in `tokens-minute`",
        "OpenAI, Azure OpenAI, Groq, Cerebras, Mistral, Kong, flexmw (`unix`, `openai`)",
    ),
    Form(
        "`x-ratelimit-*`",
        "x-ratelimit-",
        "part-dimension",
        (("x-ratelimit-limit", "5000"), ("x-ratelimit-remaining", "4999"), ("x-ratelimit-reset", "1800000000")),
        "seconds, Unix seconds, or an ISO 8601 time; `x-ratelimit-reset-after` in seconds wins",
        "GitHub, Discord, Reddit, Jira",
    ),
    Form(
        "`x-rate-limit-*`",
        "x-rate-limit-",
        "part-dimension",
        (("x-rate-limit-limit", "15"), ("x-rate-limit-remaining", "14"), ("x-rate-limit-reset", "1800000000")),
        "Unix seconds",
        "X, Okta",
    ),
    Form(
        "`RateLimit-*` (IETF drafts up to 06)",
        "ratelimit-",
        "part-dimension",
        (("ratelimit-limit", "100;w=60"), ("ratelimit-remaining", "76"), ("ratelimit-reset", "50")),
        "seconds, or Unix seconds",
        "GitLab, Zendesk, Microsoft Graph, Docker Hub",
    ),
    Form(
        "`RateLimit` (IETF draft 07)",
        "ratelimit",
        "structured",
        (("ratelimit", "limit=100, remaining=50, reset=50"), ("ratelimit-policy", "100;w=60")),
        "seconds",
        "express-rate-limit",
    ),
    Form(
        "`RateLimit` (IETF drafts from 08)",
        "ratelimit",
        "structured",
        (("ratelimit", '"default";r=50;t=30'), ("ratelimit-policy", '"default";q=100;w=60')),
        "seconds",
        "Hugging Face, flexmw (`ietf`)",
    ),
    Form(
        "`anthropic-ratelimit-<dimension>-*`",
        "anthropic-ratelimit-",
        "dimension-part",
        (
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-requests-reset", "2027-01-15T08:00:30Z"),
        ),
        "an RFC 3339 time",
        "Anthropic",
    ),
)
"""Every form that :func:`read_limits` reads. A form of another prefix is a row here and nothing else."""


@dataclass(frozen=True, slots=True)
class Reset:
    """When a limit resets: ``after`` is in seconds from now, ``resolution`` the seconds of its last digit.

    ``moment``: the header names a time by the server's clock and not a duration; how far that clock differs from the
    client's decides how far ``after`` can be trusted.
    """

    after: float
    resolution: float = 1.0
    moment: bool = False


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
    readings = [reading for key, parts in families.items() if (reading := _reading(key[1], parts, now)) is not None]
    if fields:
        readings += _structured(fields, headers.get("ratelimit-policy", "")[:_VALUE_CHARACTERS])
    return tuple(readings)


def tightest(readings: Iterable[LimitReading]) -> LimitReading | None:
    """Return the limit with the smallest share left; ``None`` where no ``remaining`` is known."""
    known = [reading for reading in readings if reading.remaining is not None]
    return min(known, key=_share_left) if known else None


def reset_wait(readings: Iterable[LimitReading]) -> float | None:
    """Return the seconds until a refused request can be admitted; ``None`` where the headers do not say.

    The limits that are used up decide, by the longest reset among them. Where none is used up, all limits decide:
    the response does not say which one refused. A reset of 0 or in the past is no wait: some providers send 0 where
    they do not know (Azure OpenAI's ``x-ratelimit-reset-tokens: 0``).
    """
    known = list(readings)
    used_up = [reading for reading in known if reading.remaining == 0]
    return max((reading.reset_after or 0.0 for reading in used_up or known), default=0.0) or None


def _share_left(reading: LimitReading) -> float:
    return (reading.remaining or 0) / max(1, reading.limit or 1)


_PARTS: Final = ("limit", "remaining", "reset")
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
        return (prefix, dimension, part) if part in _PARTS else None
    return None


def _reading(dimension: str, parts: Mapping[str, str], now: float) -> LimitReading | None:
    unit, window = _unit_of(dimension)
    limit, remaining = _counts(parts.get("limit")), _counts(parts.get("remaining"))
    reset = _longest(parts.get("reset-after"), now) or _longest(parts.get("reset"), now)
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


def _counts(value: str | None) -> list[tuple[int, int | None]]:
    """Counts, rounded down, with the window that a ``w`` parameter names: ``"100;w=21600"`` is ``[(100, 21600)]``."""
    counts: list[tuple[int, int | None]] = []
    for member in (value or "").split(","):
        text, *parameters = (piece.strip() for piece in member.split(";"))
        count = _whole(text.partition(".")[0]) if _NUMBER.fullmatch(text) else None
        if count is not None:
            windows = [_whole(piece[2:].strip()) for piece in parameters if piece.startswith("w=")]
            counts.append((count, windows[0] if windows else None))
    return counts


def _longest(value: str | None, now: float) -> Reset | None:
    """The latest of the resets that a header names: a header that came several times counts with its longest wait."""
    if not value:
        return None
    resets = [reset_of(value, now=now)] if "," not in value else [reset_of(value, now=now), *_members(value, now)]
    known = [reset for reset in resets if reset is not None]
    return max(known, key=lambda reset: reset.after) if known else None


def _members(value: str, now: float) -> Iterator[Reset | None]:
    return (reset_of(member, now=now) for member in value.split(","))


def reset_seconds(value: str, *, now: float) -> float | None:
    """Return the seconds until the moment that a reset names; ``None`` where the value cannot be read."""
    reset = reset_of(value, now=now)
    return None if reset is None else reset.after


def reset_of(value: str, *, now: float) -> Reset | None:
    """Read one reset: a duration, seconds, Unix seconds or milliseconds, or a time (RFC 3339, HTTP date).

    A number above 1e9 is a Unix time, one above 1e12 a Unix time in milliseconds, a smaller one seconds. A moment in
    the past is 0 seconds away.

    :param now: Unix seconds by the server's clock.
    """
    value = value.strip()
    if (number := _number(value)) is not None:
        resolution = 10.0 ** -len(value.partition(".")[2])
        if number >= _UNIX_MILLISECONDS:
            return Reset(max(0.0, number / 1e3 - now), 0.001, moment=True)
        if number >= _UNIX_SECONDS:
            return Reset(max(0.0, number - now), resolution, moment=True)
        return Reset(number, resolution)
    parts = _DURATION.findall(value)
    if parts and "".join(amount + unit for amount, unit in parts) == value:
        seconds = sum(float(amount) * _UNITS[unit] for amount, unit in parts)
        return Reset(min(seconds, _LONGEST), 0.001)
    moment = iso_time(value) if value[:4].isdigit() else http_date(value)
    return None if moment is None else Reset(max(0.0, moment - now), 0.001 if "." in value else 1.0, moment=True)


_ITEM: Final = re.compile(r"""(?:"([^"]*)"|([A-Za-z*][A-Za-z0-9_.:%*/-]*))((?:;[^,;"]*(?:"[^"]*"[^,;"]*)?)*)""")
"""One member of a structured list (RFC 9651): a name, quoted or bare, and its parameters. Linear: no two neighbouring
repetitions match the same character."""

_PARAMETER: Final = re.compile(r""";\s*([a-z*][a-z0-9_.*-]*)=("[^"]*"|[^;,"]*)""")


def _structured(value: str, policy: str) -> Iterator[LimitReading]:
    """The ``RateLimit`` field: a dictionary in draft 07, a list of named limits from draft 08 on."""
    draft_07 = dict(_pair(member) for member in value.split(",") if "=" in member.partition(";")[0])
    if draft_07.keys() & {"remaining", "reset"}:
        parts: dict[str, str] = {part: draft_07[part] for part in _PARTS if part in draft_07}
        windows = _counts(policy)
        if (reading := _reading("", parts, 0.0)) is not None:
            yield replace(reading, window=windows[0][1] if windows else None)
        return
    policies = dict(_items(policy))
    for name, parameters in _items(value):
        own = policies.get(name, {})
        remaining, after = _whole(parameters.get("r")), _number(parameters.get("t", ""))
        if remaining is None:
            continue
        unit = (own.get("qu") or parameters.get("qu") or "requests").strip('"')
        reset = None if after is None else Reset(after)
        yield LimitReading(name, unit, _whole(own.get("q")), remaining, reset, _whole(own.get("w")) or None)


def _pair(member: str) -> tuple[str, str]:
    name, _, value = member.partition(";")[0].partition("=")
    return name.strip(), value.strip()


def _items(value: str) -> Iterator[tuple[str, dict[str, str]]]:
    for quoted, bare, parameters in _ITEM.findall(value):
        yield quoted or bare, {name: text.strip() for name, text in _PARAMETER.findall(parameters)}


def _whole(value: str | None) -> int | None:
    return int(value) if value is not None and value.isascii() and value.isdigit() and len(value) <= 18 else None


def _number(value: str) -> float | None:
    value = value.strip()
    return min(float(value), _LONGEST) if _NUMBER.fullmatch(value) else None
