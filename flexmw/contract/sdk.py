"""What the SDKs of OpenAI and Anthropic say about themselves in their requests.

>>> parse_retry_count("2"), parse_retry_count(b"0"), parse_retry_count("two")
(2, 0, None)
"""

from __future__ import annotations

from typing import Final

__all__ = ["RETRY_COUNT", "parse_retry_count"]

RETRY_COUNT: Final = b"x-stainless-retry-count"
"""The header with the number of an attempt: 0 for the first one, also when the SDK makes no second one."""

_DIGITS: Final = 9
"""Digits that are read at most. Counts are small; the bound keeps a hostile value from becoming a huge number."""


def parse_retry_count(value: str | bytes | None) -> int | None:
    """The number in ``x-stainless-retry-count``; ``None`` where there is none.

    A value of more than nine digits is read as its first nine.
    """
    if value is None or not (value.isascii() and value.isdigit()):
        return None
    return int(value[:_DIGITS])
