"""Judge one response by the error contract. Pure: values in, faults out.

>>> judge(404, {"content-type": "text/plain"}, b"Not Found", Expected((404,)))
["content-type is 'text/plain', not application/json", "the body is not the envelope: b'Not Found'"]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from flexmw.contract import ErrorBody, redact, wait_of

__all__ = ["Expected", "judge", "quota_faults"]

_QUOTA: Final = (
    "retry-after",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
)
_SKEW: Final = 2.0
"""Seconds by which the waits of two headers may differ: each is rounded up, and clocks differ."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the contract requires of a response: one of ``statuses``, and ``type`` and ``code`` unless these are
    ``None``."""

    statuses: tuple[int, ...]
    type: str | None = None
    code: str | None = None


def judge(
    status: int, headers: Mapping[str, str], body: bytes, expected: Expected, *, head: bool = False, now: float = 0.0
) -> list[str]:
    """Name what is wrong with a response; empty for a response that keeps the contract.

    :param headers: the headers, with names in lower case.
    :param head: the request was a HEAD, so the response has no body.
    :param now: Unix seconds, to compute the wait of a 429 without a ``Date``.
    """
    faults: list[str] = []
    if status not in (*expected.statuses, 429):
        wanted = " or ".join(map(str, expected.statuses))
        faults.append(f"status is {status}, not {wanted}")
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        faults.append(f"content-type is {media or 'missing'!r}, not application/json")
    if not head:
        faults += _envelope_faults(body, expected if status in expected.statuses else Expected(()))
    if status == 429:
        faults += quota_faults(headers, now=now)
    return faults


def _envelope_faults(body: bytes, expected: Expected) -> list[str]:
    error = ErrorBody.decode(body)
    if error is None:
        return [f"the body is not the envelope: {redact(repr(body[:120]))}"]
    return [
        f"error.{field} is {actual!r}, not {required!r}"
        for field, actual, required in (("type", error.type, expected.type), ("code", error.code, expected.code))
        if required is not None and actual != required
    ]


def quota_faults(headers: Mapping[str, str], *, now: float) -> list[str]:
    """Name what is wrong with the headers of a 429: one is missing, or two contradict each other.

    :param now: Unix seconds.
    """
    if missing := [name for name in _QUOTA if name not in headers]:
        return [f"a 429 without {', '.join(missing)}"]
    wait = wait_of(headers, now=now)
    reset = wait_of({name: value for name, value in headers.items() if "retry-after" not in name}, now=now)
    if wait is None or wait.source == "reset":
        return [f"Retry-After is {headers['retry-after']!r}, which is no time"]
    if reset is None:
        return [f"x-ratelimit-reset-requests is {headers['x-ratelimit-reset-requests']!r}, which is no time"]
    if abs(reset.seconds - wait.seconds) > _SKEW:
        return [f"Retry-After asks for {wait.seconds:g} s, x-ratelimit-reset-requests for {reset.seconds:g} s"]
    return []
