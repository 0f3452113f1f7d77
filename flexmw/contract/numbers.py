"""Numbers in header values. Pure.

>>> decimal("34"), decimal(" 0.5 "), decimal("-1"), decimal("1e3")
(34.0, 0.5, None, None)
>>> whole_number("34"), whole_number("0.5"), whole_number(None)
(34, None, None)
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["LARGEST", "decimal", "scaled", "whole_number"]

LARGEST: Final = 1e18
"""The largest number that :func:`decimal` returns. Sums and differences with the time of a clock stay finite."""

_DECIMAL: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")


def decimal(value: str) -> float | None:
    """Return a decimal number of any length, at most :data:`LARGEST`; ``None`` for any other text.

    A sign or an exponent is not part of a number in a header.
    """
    value = value.strip()
    return min(float(value), LARGEST) if _DECIMAL.fullmatch(value) else None


def whole_number(value: str | None) -> int | None:
    """Return a whole number of at most 18 digits; ``None`` for any other text."""
    return int(value) if value is not None and value.isascii() and value.isdigit() and len(value) <= 18 else None


def scaled(value: int, scale: int) -> str:
    """A number of parts as a decimal number of wholes.

    >>> scaled(19_483_100, 1_000_000), scaled(5_000_000, 1_000_000), scaled(7, 1)
    ('19.4831', '5', '7')
    """
    if scale == 1:
        return str(value)
    whole, rest = divmod(value, scale)
    return f"{whole}.{rest:0{len(str(scale)) - 1}d}".rstrip("0") if rest else str(whole)
