"""Amounts of money and of other units that are not whole: numbers from and to what a store counts. Pure.

A store counts whole numbers, which are millionths of a unit such as ``usd``. So sums are exact.

>>> whole_amount(Decimal("0.0000015"), SCALE), whole_amount(0.1 + 0.2, SCALE)
(2, 300000)
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final, TypeAlias, TypeGuard

__all__ = ["SCALE", "Amount", "is_amount", "whole_amount"]

SCALE: Final = 1_000_000
"""Stores count millionths of every unit except requests, tokens and messages. This is the number for one of the
unit."""

Amount: TypeAlias = int | float | Decimal
"""An amount of a unit. A float is taken as the number that it prints as."""


def is_amount(value: object) -> TypeGuard[Amount]:
    """True for a finite number, at least 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return False
    return math.isfinite(value) and value >= 0


def whole_amount(value: Amount, scale: int) -> int:
    """An amount as a store counts it, rounded to the nearest whole number."""
    if scale == 1:
        return int(value)
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return int((number * scale).to_integral_value(ROUND_HALF_EVEN))
