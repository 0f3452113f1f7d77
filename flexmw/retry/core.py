"""The decision table of Retry: an event and the safety of a second execution decide whether to try again.

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
    "Refused503",
    "Result",
    "RetryDecision",
    "RowName",
    "Safety",
    "StopReason",
    "backoff",
    "is_json",
    "is_passing",
    "is_signed_once",
    "judge",
    "of_error",
    "of_status",
    "shrink",
    "unprocessed",
    "without_safety",
]

Result = Literal["unsent", "refused", "ambiguous", "answered"]

Event = Literal["unsent", "refused", "ambiguous", "conflict", "answered"]
"""What happened to one attempt.

``unsent``: the request provably never left. ``refused``: the server says that it did not begin (429, 425, 503
or 529 with Retry-After). ``ambiguous``: the server may have executed the request (a lost response, 408, 5xx).
``conflict``: 409 with Retry-After, an execution under the same key is running. ``answered``: every other response."""

RowName = Event | Literal["asked", "told_not_to"]
"""The rows of the table: the events, and the two values of the response header ``x-should-retry``."""

Safety = Literal["safe_method", "idempotency_key", "opt_in", "none"]
"""Why a second execution would do no harm: the method is idempotent (RFC 9110 section 9.2.2), the server is known to
honour the idempotency key of the request, or the caller promised it. ``none``: a second execution may do harm."""

StopReason = Literal[
    "unsafe_method",
    "status",
    "attempts_exhausted",
    "deadline",
    "retry_after_too_long",
    "body_not_replayable",
    "signature_used",
    "insufficient_quota",
    "key_not_honoured",
    "budget",
    "local_error",
    "handed_back",
]
"""Why a call that did not go well is not sent again, as the event ``flexmw.retry.stopped`` names it."""

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
"""Each row is tried again under these kinds of safety."""

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
    """Look an event up in the table.

    :param asked: the response's ``x-should-retry``. False always stops. True allows another attempt only where a second
        execution does no harm, and never makes an ambiguous event certain.
    """
    row: RowName = event
    if asked is False:
        row = "told_not_to"
    elif asked and event != "refused":
        row = "asked"
    return RetryDecision(safety in TABLE[row], _RESULT[event], row)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call went: ``response.extensions["flexmw"]`` of a response, ``flexmw`` of an exception.

    :param outcome: ``answered``, ``unsent``, ``refused`` or ``ambiguous``. An ambiguous request may have been executed:
        reconcile before you try again.
    :param attempts: how many attempts were made.
    :param waited: seconds between the attempts and, with ``Pace`` inside ``Retry``, before them, in total.
    :param key: the idempotency key that was sent; ``None`` where none was.
    :param reason: why there was no further attempt: ``unsafe_method``, ``status``, ``attempts_exhausted``,
        ``deadline``, ``retry_after_too_long``, ``body_not_replayable``, ``body_broken``, ``signature_used``,
        ``budget``, ``insufficient_quota``, ``key_not_honoured``, ``given_back_before``, ``client_closed``,
        ``local_error``, ``cancelled`` or ``handed_back``; ``None`` where no further attempt was needed. A body that
        broke and could not be continued: ``stream_lost``, ``stream_gone``, ``stream_changed``, ``stream_differs``,
        ``stream_too_large`` or ``resume_exhausted``.
    :param row: the row of the decision table that decided last.
    :param received: the bytes of the body that the caller has, where a body broke that might have been continued.
    """

    outcome: Result
    attempts: int
    waited: float = 0.0
    key: str | None = None
    reason: str | None = None
    row: RowName = "answered"
    received: int | None = None


_REFUSED: Final = frozenset({425, 429})
_UNAVAILABLE: Final = frozenset({503, 529})
"""A refusal if the response says when to come back, or asks for it. Several providers send 529 when overloaded."""
_NOT_BEGUN: Final = frozenset({501, 505})
"""5xx of a server that does not know what to do: it has not begun. Every other 5xx is as ambiguous as a 500, known or
not (RFC 9110 section 15)."""


def of_status(status: int, *, retry_after: bool, asked: bool | None = None) -> Event:
    """The event that a response stands for.

    :param retry_after: the response has a valid ``Retry-After`` or ``retry-after-ms``, be it zero.
    :param asked: the response's ``x-should-retry``.
    """
    if status in _REFUSED or (status in _UNAVAILABLE and (retry_after or asked)):
        return "refused"
    if status == 408 or (status >= 500 and status not in _NOT_BEGUN):
        return "ambiguous"
    return "conflict" if status == 409 and retry_after else "answered"


Refused503 = Literal["json", "any", "never"]


def without_safety(event: Event, *, status: int, media_type: str, server: str, trust: Refused503) -> Event:
    """The event that a response stands for where a second execution may do harm.

    A proxy can answer for an origin whose response it has lost. Varnish does so by a 503 with ``Retry-After``, which is
    no refusal then: the origin may have executed the request. No common proxy writes JSON by itself, so a 503 counts as
    the origin's refusal if it has a JSON body. lighttpd answers 404 where an origin falls silent in mid-response.

    :param media_type: the response's ``content-type`` without parameters, in lower case.
    :param server: the response's ``server``, in lower case.
    :param trust: which 503 (and 529) counts as the origin's: one with a JSON body, any, or none.
    """
    if event == "refused" and status in _UNAVAILABLE and trust != "any":
        return "refused" if trust == "json" and is_json(media_type) else "ambiguous"
    if status == 404 and server.startswith("lighttpd") and media_type == "text/html":
        return "ambiguous"
    return event


def is_json(media_type: str) -> bool:
    """Whether a media type is JSON (RFC 8259) or one that is built on it (RFC 6839)."""
    return media_type == "application/json" or media_type.endswith("+json")


REFUSED_STREAM: Final = 7

CERTAIN: Final = frozenset({"PoolTimeout", "UnsupportedProtocol"})
"""Exception classes that mean "never left" where the transport has reported no events: no transport raises them for a
request that it has begun to send. ``ConnectError`` and ``ConnectTimeout`` are not among them: the bridges to aiohttp
raise them for a response that was lost."""

HOPELESS: Final = frozenset({"UnsupportedProtocol", "SSLCertVerificationError"})
"""Exception classes that every further attempt would raise again."""


def of_error(classes: frozenset[str], *, sent: bool | None, proven: bool = False, refused: bool = False) -> Event:
    """The event that a transport error stands for.

    :param classes: the names of the exception's class and its bases; httpx and httpx2 use the same names.
    :param sent: whether the transport reported that the request's head went out; ``None`` where it reports no events.
    :param proven: a cause of the exception proves that nothing was sent.
    :param refused: an HTTP/2 server said that it did not process the request, see :func:`unprocessed`.
    """
    if sent is None:
        sent = not (proven or classes & CERTAIN)
    return "ambiguous" if sent and not refused else "unsent"


def unprocessed(detail: object, stream: int | None) -> bool:
    """Whether an HTTP/2 event (of the ``h2`` package, as httpcore hands it on) proves that a stream was not processed.

    RFC 9113 section 8.7: a RST_STREAM with REFUSED_STREAM, or a GOAWAY whose last stream is an earlier one.
    """
    last = getattr(detail, "last_stream_id", None)
    if isinstance(last, int):
        return stream is not None and stream > last
    return getattr(detail, "error_code", None) == REFUSED_STREAM and hasattr(detail, "stream_id")


def is_passing(rejection: BaseException) -> bool:
    """Whether another attempt may get over what h11 or h2 raised instead of writing a head.

    h2 rejects a head also because too many streams are open, or because the connection has ended. A head that is
    malformed stays malformed.
    """
    return type(rejection).__name__ == "TooManyStreamsError" or str(rejection).startswith("Invalid input Connection")


def backoff(attempt: int, chance: float, *, base: float = 0.5, top: float = 8.0) -> float:
    """Seconds to wait after an attempt: exponential with full jitter, never below a tenth of the step.

    :param attempt: the number of the attempt; the first is 1.
    :param chance: a random number from 0 to 1.
    """
    step = min(top, base * 2.0 ** min(attempt - 1, 32))
    return step * (0.1 + 0.9 * chance)


_NONCES: Final = ("digest ", "hawk ")


def is_signed_once(headers: Mapping[str, str]) -> bool:
    """Whether a request is signed in a way that a server takes once: a second copy is a replay to it.

    Digest counts the requests of a nonce (RFC 7616 section 3.4), OAuth 1 (RFC 5849), Hawk and DPoP (RFC 9449) carry a
    nonce of one request. Only the client's authentication can sign anew, and it runs outside every transport.
    """
    authorization = headers.get("authorization", "").lstrip().lower()
    return authorization.startswith(_NONCES) or "oauth_nonce" in authorization or "dpop" in headers


def shrink(timeout: Mapping[str, float | None], remaining: float) -> dict[str, float | None]:
    """The timeouts of an attempt (connect, read, write, pool; seconds), none longer than ``remaining``."""
    left = max(0.001, remaining)
    phases = {"connect": None, "read": None, "write": None, "pool": None, **timeout}
    return {phase: left if value is None else min(value, left) for phase, value in phases.items()}
