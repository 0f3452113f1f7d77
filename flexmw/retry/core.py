"""Retry decisions as a table: what happened, what covers a second execution, and so whether to try again.

>>> judge("ambiguous", "none").retry, judge("ambiguous", "safe_method").retry, judge("unsent", "none").retry
(False, True, True)
>>> of_status(503, retry_after=True), of_status(503, retry_after=False)
('refused', 'ambiguous')
>>> judge("ambiguous", "safe_method", asked=False)
RetryDecision(retry=False, outcome='ambiguous', row='told_not_to')
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

__all__ = [
    "CERTAIN",
    "HOPELESS",
    "SAFE_METHODS",
    "TABLE",
    "Event",
    "Outcome",
    "Result",
    "RetryDecision",
    "RowName",
    "Safety",
    "backoff",
    "judge",
    "of_error",
    "of_status",
    "parse_count",
    "shrink",
    "unprocessed",
]

Result = Literal["unsent", "refused", "ambiguous", "answered"]

Event = Literal["unsent", "refused", "ambiguous", "conflict", "answered"]
"""``unsent``: the request provably never left. ``refused``: the server says that it did not begin (429, 425, 503 with
Retry-After). ``ambiguous``: it may have worked (a lost answer, 408, 500, 502, 503, 504). ``conflict``: 409 with
Retry-After, an execution under the same key is running. ``answered``: everything else."""

RowName = Event | Literal["asked", "told_not_to"]
"""The rows of the table: the events, and the two words that a server can say with ``x-should-retry``."""

Safety = Literal["safe_method", "idempotency_key", "opt_in", "none"]
"""Why a second execution would do no harm: the method is idempotent (RFC 9110 section 9.2.2), the server is known to
honour the request's key, the caller said so; or nothing."""

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"})


_COVERED: Final[frozenset[Safety]] = frozenset({"safe_method", "idempotency_key", "opt_in"})
_ALWAYS: Final[frozenset[Safety]] = frozenset({*_COVERED, "none"})
_NEVER: Final[frozenset[Safety]] = frozenset()

TABLE: Final[Mapping[RowName, frozenset[Safety]]] = {
    "unsent": _ALWAYS,
    "refused": _ALWAYS,
    "ambiguous": _COVERED,
    "conflict": frozenset({"idempotency_key", "opt_in"}),
    "answered": _NEVER,
    "asked": _COVERED,
    "told_not_to": _NEVER,
}
"""Under which licences each row is tried again."""

_RESULT: Final[Mapping[Event, Result]] = {
    "unsent": "unsent",
    "refused": "refused",
    "ambiguous": "ambiguous",
    "conflict": "answered",
    "answered": "answered",
}


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """Whether the table allows another attempt, what to report when there is none, and the row that decided."""

    retry: bool
    outcome: Result
    row: RowName


def judge(event: Event, safety: Safety, *, asked: bool | None = None) -> RetryDecision:
    """Look an event up. ``asked`` is the answer's ``x-should-retry``: ``false`` always holds; ``true`` helps where a
    second execution does no harm and cannot make an ambiguous answer certain."""
    row: RowName = event
    if asked is False:
        row = "told_not_to"
    elif asked and event != "refused":
        row = "asked"
    return RetryDecision(safety in TABLE[row], _RESULT[event], row)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call went, on ``response.extensions["flexmw"]`` or on the exception's ``flexmw``.

    ``outcome`` is ``answered``, ``unsent``, ``refused`` or ``ambiguous`` (it may have been executed; reconcile before
    trying again). ``attempts`` were sent, ``waited`` seconds passed between them. ``key`` is the idempotency key that
    went out, if any. ``reason`` says why there was no further attempt: ``unsafe_method``, ``status``,
    ``attempts_exhausted``, ``deadline``, ``retry_after_too_long``, ``body_not_replayable``, ``budget``,
    ``given_back_before``, ``local_error``; ``None`` where none was called for. ``row`` names the row of the decision
    table that decided last.
    """

    outcome: Result
    attempts: int
    waited: float = 0.0
    key: str | None = None
    reason: str | None = None
    row: RowName = "answered"


_AMBIGUOUS: Final = frozenset({408, 500, 502, 503, 504})
_REFUSED: Final = frozenset({425, 429})


def of_status(status: int, *, retry_after: bool, asked: bool | None = None) -> Event:
    """What an answer means. ``retry_after``: it carries a readable Retry-After. ``asked``: its ``x-should-retry``."""
    if status in _REFUSED or (status == 503 and (retry_after or asked)):
        return "refused"
    if status in _AMBIGUOUS:
        return "ambiguous"
    return "conflict" if status == 409 and retry_after else "answered"


REFUSED_STREAM: Final = 7

CERTAIN: Final = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "InvalidURL"})
"""Exceptions that mean "never left" by their class alone, where the transport has reported no events."""

HOPELESS: Final = frozenset({"UnsupportedProtocol", "LocalProtocolError", "InvalidURL", "SSLCertVerificationError"})
"""Exceptions that would come again however often one tried."""


def of_error(classes: frozenset[str], *, sent: bool | None, refused: bool = False) -> Event:
    """What a transport error means.

    :param classes: names of the exception's class and its bases; httpx and httpx2 name them alike.
    :param sent: whether the transport reported that the request's head went out; ``None`` if it reports nothing.
    :param refused: an HTTP/2 server said that it did not process the request, see :func:`unprocessed`.
    """
    if sent is None:
        sent = not classes & CERTAIN
    return "ambiguous" if sent and not refused else "unsent"


def unprocessed(detail: object, stream: int | None) -> bool:
    """Whether an HTTP/2 event (of the ``h2`` package, as httpcore hands it on) proves that a stream was not processed.

    RFC 9113 section 8.7: a RST_STREAM with REFUSED_STREAM, or a GOAWAY whose last stream is an earlier one.
    """
    last = getattr(detail, "last_stream_id", None)
    if isinstance(last, int):
        return stream is not None and stream > last
    return getattr(detail, "error_code", None) == REFUSED_STREAM and hasattr(detail, "stream_id")


def backoff(attempt: int, chance: float, *, base: float = 0.5, top: float = 8.0) -> float:
    """Seconds to wait after attempt number ``attempt`` (1 is the first): exponential with full jitter, never below a
    tenth of the step. ``chance`` is a random number from 0 to 1."""
    step = min(top, base * 2.0 ** min(attempt - 1, 32))
    return step * (0.1 + 0.9 * chance)


def parse_count(value: str | None) -> int | None:
    """``x-stainless-retry-count`` as a number; ``None`` where it is missing or no number."""
    return int(value) if value is not None and value.isascii() and value.isdigit() and len(value) < 6 else None


def shrink(timeout: Mapping[str, float | None], remaining: float) -> dict[str, float | None]:
    """Timeouts of an attempt (connect, read, write, pool; seconds) cut to what is left of the deadline."""
    left = max(0.001, remaining)
    phases = {"connect": None, "read": None, "write": None, "pool": None, **timeout}
    return {phase: left if value is None else min(value, left) for phase, value in phases.items()}
