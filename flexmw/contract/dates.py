"""Dates as HTTP headers carry them. Pure.

>>> http_date("Fri, 15 Jan 2027 08:00:00 GMT")
1800000000.0
>>> http_date("soon") is None
True
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["http_date", "iso_time"]


def http_date(value: str) -> float | None:
    """Return an HTTP date (RFC 9110 section 5.6.7) as Unix seconds; ``None`` where the value is not one."""
    try:
        return _unix(parsedate_to_datetime(value))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def iso_time(value: str) -> float | None:
    """Return a time by RFC 3339 as Unix seconds; ``None`` where the value is not one. Without an offset it is UTC."""
    if not 10 <= len(value) <= 64:
        return None
    try:
        return _unix(datetime.fromisoformat(value))
    except (ValueError, OverflowError):
        return None


def _unix(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
