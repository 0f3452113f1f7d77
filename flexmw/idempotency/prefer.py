"""The preference ``wait`` of a request (RFC 7240, section 4.3). Pure.

>>> preferred_wait(["respond-async, wait=5"]), preferred_wait(['WAIT = "3"; x=1']), preferred_wait(["wait=600"])
(5.0, 3.0, 10.0)
>>> preferred_wait([]), preferred_wait(["wait=-1"]), preferred_wait(["wait"])
(None, None, None)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["MAX_WAIT_SECONDS", "preferred_wait"]

MAX_WAIT_SECONDS: Final = 10.0
"""Longest wait. A proxy gives a silent request up after a time of its own, and then nobody gets the response."""

_DIGITS: Final = 9


def preferred_wait(values: Iterable[str]) -> float | None:
    """The seconds that a client wants to wait, at most :data:`MAX_WAIT_SECONDS`; ``None`` without a valid preference.

    The first ``wait`` counts, as the standard has it. A preference that cannot be read is ignored, as the standard has
    it too.

    :param values: the values of the ``Prefer`` fields of the request.
    """
    for value in values:
        for preference in value.split(","):
            name, equals, text = preference.partition(";")[0].partition("=")
            if name.strip().lower() == "wait" and equals:
                digits = text.strip().strip('"')
                is_number = digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS
                return min(float(digits), MAX_WAIT_SECONDS) if is_number else None
    return None
