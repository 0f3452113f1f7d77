"""Headers that ask a client to wait, or not to come back: a table of their forms, by name.

>>> render("duplicate", wait=1.0, now=0.0)
(('Retry-After', '1'), ('Retry-After', '3'))
>>> render("date-skewed", wait=2.0, now=0.0)
(('Date', 'Thu, 01 Jan 1970 01:00:00 GMT'), ('Retry-After', 'Thu, 01 Jan 1970 01:00:02 GMT'))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from email.utils import formatdate
from types import MappingProxyType
from typing import Final, TypeAlias

from flexmw.errors import ConfigError

__all__ = ["WAITS", "Headers", "http_date", "render"]

Headers: TypeAlias = tuple[tuple[str, str], ...]

_HOUR: Final = 3600.0


def http_date(seconds: float) -> str:
    """Return Unix seconds as an HTTP date (RFC 9110 section 5.6.7), rounded down."""
    return formatdate(math.floor(seconds), usegmt=True)


def _retry_after(value: str) -> Callable[[float, float], Headers]:
    return lambda wait, now: (("Retry-After", value),)


def _skewed(skew: float) -> Callable[[float, float], Headers]:
    def headers(wait: float, now: float) -> Headers:
        return (("Date", http_date(now + skew)), ("Retry-After", http_date(math.ceil(now + skew + wait))))

    return headers


def _quota(wait: float, now: float) -> Headers:
    return (
        ("x-ratelimit-limit-requests", "10"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", str(math.ceil(now + wait))),
    )


WAITS: Final[Mapping[str, Callable[[float, float], Headers]]] = MappingProxyType(
    {
        "none": lambda wait, now: (),
        "seconds": lambda wait, now: (("Retry-After", str(math.ceil(wait))),),
        "fraction": lambda wait, now: (("Retry-After", f"{wait:.3f}"),),
        "zero": _retry_after("0"),
        "negative": _retry_after("-5"),
        "garbage": _retry_after("soon"),
        "empty": _retry_after(""),
        "huge": _retry_after("1000000000"),
        "digits": _retry_after("9" * 400),
        "infinite": _retry_after("inf"),
        "nan": _retry_after("nan"),
        "duplicate": lambda wait, now: (
            ("Retry-After", str(math.ceil(wait))),
            ("Retry-After", str(math.ceil(wait) + 2)),
        ),
        "date": _skewed(0.0),
        "date-past": lambda wait, now: (("Retry-After", http_date(now - _HOUR)),),
        "date-skewed": _skewed(_HOUR),
        "date-behind": _skewed(-_HOUR),
        "ms": lambda wait, now: (("retry-after-ms", str(math.ceil(wait * 1e3))),),
        "reset": _quota,
        "reset-duration": lambda wait, now: (
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", f"{wait:g}s"),
        ),
        "contract": lambda wait, now: (("Retry-After", str(math.ceil(wait))), *_quota(wait, now)),
        "should-retry": lambda wait, now: (("x-should-retry", "true"),),
        "should-not-retry": lambda wait, now: (("x-should-retry", "false"),),
    }
)
"""By name, a function of the seconds to wait and the Unix time that returns headers.

``date-skewed`` and ``date-behind`` come from a server whose clock is an hour off, its ``Date`` included. ``huge`` is
31 years, ``digits`` 400 digits. ``duplicate`` adds a second line of two seconds more. ``reset`` is a Unix time,
``reset-duration`` OpenAI's ``1s``; ``contract`` is the four headers of flexmw's contract together.
"""


def render(form: str, *, wait: float, now: float) -> Headers:
    """Return the headers of one form.

    :param form: a name of :data:`WAITS`.
    :param wait: seconds to wait.
    :param now: Unix seconds.
    :raises ConfigError: the table does not have the name.
    """
    try:
        headers = WAITS[form]
    except KeyError:
        raise ConfigError("retry", form, f"one of {', '.join(WAITS)}") from None
    return headers(wait, now)
