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
    "signs",
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
    """The decision about one attempt.

    :ivar retry: whether the table allows another attempt.
    :ivar outcome: the outcome of the call if there is no other attempt.
    :ivar row: the row of the table that decided.
    """

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
    """Outcome of a call: ``response.extensions["flexmw"]`` of a response, the attribute ``flexmw`` of an exception.

    :param outcome: ``answered``, ``unsent``, ``refused`` or ``ambiguous``. An ambiguous request may have been executed:
        reconcile before you try again.
    :param attempts: the number of attempts.
    :param waited: all seconds of waiting between the attempts and, with ``Pace`` inside ``Retry``, before them.
    :param key: the idempotency key that was sent; ``None`` if none was sent.
    :param reason: why there was no further attempt: ``unsafe_method``, ``status``, ``attempts_exhausted``,
        ``deadline``, ``retry_after_too_long``, ``body_not_replayable``, ``body_broken``, ``signature_used``,
        ``budget``, ``insufficient_quota``, ``key_not_honoured``, ``given_back_before``, ``client_closed``,
        ``local_error``, ``cancelled`` or ``handed_back``; ``None`` if no further attempt was needed. If a body broke
        and could not be continued: ``stream_lost``, ``stream_gone``, ``stream_changed``, ``stream_differs``,
        ``stream_too_large`` or ``resume_exhausted``.
    :param row: the row of the decision table that decided last.
    :param received: the number of body bytes that the caller has, if a body broke that Retry tried to continue.
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
"""Refusals if the response names a wait or asks for a retry. Several providers send 529 when they are overloaded."""
_NOT_BEGUN: Final = frozenset({501, 505})
"""Statuses of a server that cannot handle the request, and so has not begun. Any other 5xx, also an unknown one, is as
ambiguous as a 500 (RFC 9110 section 15)."""


def of_status(status: int, *, retry_after: bool, asked: bool | None = None) -> Event:
    """Return the event of a response.

    :param retry_after: whether the response has a valid ``Retry-After`` or ``retry-after-ms``; zero is valid.
    :param asked: the value of the response's ``x-should-retry``.
    """
    if status in _REFUSED or (status in _UNAVAILABLE and (retry_after or asked)):
        return "refused"
    if status == 408 or (status >= 500 and status not in _NOT_BEGUN):
        return "ambiguous"
    return "conflict" if status == 409 and retry_after else "answered"


Refused503 = Literal["json", "any", "never"]


def without_safety(event: Event, *, status: int, media_type: str, server: str, trust: Refused503) -> Event:
    """Return the event of a response to a request whose second execution may do harm.

    A proxy sends its own response if it has lost the origin's. Varnish sends a 503 with ``Retry-After``, and the origin
    may have executed the request. No common proxy writes JSON by itself, so a 503 with a JSON body counts as a refusal
    by the origin. lighttpd sends a 404 if an origin stops in the middle of its response.

    :param media_type: the response's ``content-type`` without parameters, in lower case.
    :param server: the response's ``server``, in lower case.
    :param trust: which 503 (and 529) counts as a refusal by the origin: one with a JSON body, any, or none.
    """
    if event == "refused" and status in _UNAVAILABLE and trust != "any":
        return "refused" if trust == "json" and is_json(media_type) else "ambiguous"
    if status == 404 and server.startswith("lighttpd") and media_type == "text/html":
        return "ambiguous"
    return event


def is_json(media_type: str) -> bool:
    """Return whether a media type is JSON (RFC 8259) or has the suffix ``+json`` (RFC 6839)."""
    return media_type == "application/json" or media_type.endswith("+json")


REFUSED_STREAM: Final = 7

CERTAIN: Final = frozenset({"PoolTimeout", "UnsupportedProtocol"})
"""Exception classes that prove that nothing was sent, even if the transport has reported no events: no transport raises
them after it has begun to send. ``ConnectError`` and ``ConnectTimeout`` prove nothing: the bridges to aiohttp also
raise them for a lost response."""

HOPELESS: Final = frozenset({"UnsupportedProtocol", "SSLCertVerificationError"})
"""Exception classes that each further attempt would raise again."""


def of_error(classes: frozenset[str], *, sent: bool | None, proven: bool = False, refused: bool = False) -> Event:
    """Return the event of a transport error.

    :param classes: the names of the exception's class and its bases; httpx and httpx2 use the same names.
    :param sent: whether the transport reported that it sent the request's head; ``None`` if it reports no events.
    :param proven: whether a cause of the exception proves that nothing was sent.
    :param refused: whether an HTTP/2 server said that it did not process the request, see :func:`unprocessed`.
    """
    if sent is None:
        sent = not (proven or classes & CERTAIN)
    return "ambiguous" if sent and not refused else "unsent"


def unprocessed(detail: object, stream: int | None) -> bool:
    """Return whether an HTTP/2 event proves that the server did not process a stream.

    RFC 9113 section 8.7: a RST_STREAM with REFUSED_STREAM, or a GOAWAY whose last stream is an earlier one.

    :param detail: an event of the ``h2`` package, from the exception of httpcore.
    :param stream: the id of the stream.
    """
    last = getattr(detail, "last_stream_id", None)
    if isinstance(last, int):
        return stream is not None and stream > last
    return getattr(detail, "error_code", None) == REFUSED_STREAM and hasattr(detail, "stream_id")


def is_passing(rejection: BaseException) -> bool:
    """Return whether another attempt may succeed after h11 or h2 has refused to write a request head.

    h2 refuses a head if too many streams are open or if the connection has ended: another attempt may succeed. A
    malformed head is refused each time.

    :param rejection: the exception of h11 or h2.
    """
    return type(rejection).__name__ == "TooManyStreamsError" or str(rejection).startswith("Invalid input Connection")


def backoff(attempt: int, chance: float, *, base: float = 0.5, top: float = 8.0) -> float:
    """Return the seconds to wait after an attempt: exponential with full jitter, at least a tenth of the step.

    :param attempt: the number of the attempt; the first is 1.
    :param chance: a random number from 0 to 1.
    """
    step = min(top, base * 2.0 ** min(attempt - 1, 32))
    return step * (0.1 + 0.9 * chance)


_NONCES: Final = ("digest ", "hawk ")


def is_signed_once(headers: Mapping[str, str]) -> bool:
    """Return whether a request has a signature that a server accepts once. The server refuses a second copy as a
    replay.

    Digest counts the requests of a nonce (RFC 7616 section 3.4), OAuth 1 (RFC 5849), Hawk and DPoP (RFC 9449) carry a
    nonce of one request. Only the client's authentication can sign anew, and it runs outside every transport.
    """
    authorization = headers.get("authorization", "").lstrip().lower()
    return authorization.startswith(_NONCES) or "oauth_nonce" in authorization or "dpop" in headers


def signs(headers: Mapping[str, str], name: str) -> bool:
    """Return whether the signature of a request covers a header: a server refuses the request if the header changes.

    AWS Signature Version 4 lists the headers in ``SignedHeaders``, RFC 9421 in ``Signature-Input``, and
    draft-cavage-http-signatures in ``headers`` of ``Authorization`` or ``Signature``.

    :param name: the name of the header, in lower case.
    """
    authorization = headers.get("authorization", "").lower()
    signed = authorization.partition("signedheaders=")[2].partition(",")[0].strip().split(";")
    for text in (authorization, headers.get("signature", "").lower()):
        signed += text.partition('headers="')[2].partition('"')[0].split()
    return name in signed or f'"{name}"' in headers.get("signature-input", "").lower()


def shrink(timeout: Mapping[str, float | None], remaining: float) -> dict[str, float | None]:
    """Return the timeouts of an attempt (connect, read, write, pool), each at most ``remaining`` seconds."""
    left = max(0.001, remaining)
    phases = {"connect": None, "read": None, "write": None, "pool": None, **timeout}
    return {phase: left if value is None else min(value, left) for phase, value in phases.items()}
