"""The headers that every error response gets, whichever part of the app made the response, and those that a response
loses whose body an error replaces. Pure.

To put a header on every error response, or on every 429, add it in :func:`add_error_headers`. These responses pass
through that function, each exactly once:

- under an Envelope, every error: the app's own ``Response(status_code=429)``, an exception that the app raised (also
  the 429 of an upstream's SDK), an unknown route, and the refusal of a RateLimit or an Idempotency;
- without an Envelope, the errors that flexmw sends itself: the refusals of RateLimit and Idempotency.

An error that an Envelope leaves alone (``passthrough``, ``unless``) and an event stream that fails after its head was
sent do not pass here.

>>> from flexmw.contract import ErrorBody
>>> error = ErrorBody(message="Internal server error.", type="server_error", code="internal_error")
>>> headers = [(b"content-type", b"application/json")]
>>> add_error_headers(headers, 500, error, method="POST", request_id=(b"x-request-id", b"r1"), retry_advice=True)
>>> headers
[(b'content-type', b'application/json'), (b'x-request-id', b'r1'), (b'x-should-retry', b'false')]
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from flexmw.contract.error import ErrorBody
from flexmw.contract.table import PAGE, STATUS, for_status
from flexmw.contract.waits import longest_line, wait_of

__all__ = ["LONGEST_WAIT_SECONDS", "add_error_headers", "add_missing", "describes_body", "should_retry"]

Header = tuple[bytes, bytes]

LONGEST_WAIT_SECONDS: Final = 60.0
"""The longest ``Retry-After`` that every SDK obeys. After a longer one the SDKs of Groq, and older ones of OpenAI and
Anthropic, come back by their own backoff of at most eight seconds; Anthropic's sleeps for as long as it is told to."""

_BODY_HEADERS: Final = frozenset(
    b"content-length content-type content-encoding content-language content-md5 content-digest repr-digest digest"
    b" content-disposition content-location transfer-encoding etag last-modified accept-ranges content-range"
    b" trailer".split()
)
"""Headers that describe a body, and are wrong after the body is replaced (RFC 9110 section 8, RFC 9530)."""

_WAITS: Final = (b"retry-after", b"retry-after-ms")

_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
"""RFC 9110 section 9.2.2."""


def describes_body(name: bytes, status: int) -> bool:
    """True if a header (name in lower case) describes the body, and so is wrong after the body is replaced."""
    return name in _BODY_HEADERS and not (status == 416 and name == b"content-range")


def add_error_headers(
    headers: list[Header],
    status: int,
    error: ErrorBody,
    *,
    method: str = "GET",
    keyed: bool = False,
    request_id: Header | None = None,
    retry_advice: bool = False,
    now: float = 0.0,
) -> None:
    """Add to the headers of an error response, in place, what every error response carries.

    A header that the response has already keeps its value. Of several ``Retry-After`` lines the longest stays.

    :param headers: the response's headers, complete but for what is added here; added names are in lower case.
    :param status: the response's status, 400 to 599.
    :param error: the error object in the response's body.
    :param method: the request's method.
    :param keyed: True if the request carries an ``Idempotency-Key``.
    :param request_id: the header that identifies the request; ``None`` adds none.
    :param now: Unix seconds, to read a ``Retry-After`` that is a date in a response without ``Date``.
    :param retry_advice: True to add ``x-should-retry`` where :func:`should_retry` has an opinion.
    """
    if request_id is not None:
        add_missing(headers, [request_id])
    lines = [(name.lower(), value) for name, value in headers if name.lower() in _WAITS]
    if len(lines) > 1 or any(b"," in value for _, value in lines):
        _merge_waits(headers, now)
    if retry_advice:
        wait = _wait(headers, now) if lines else 0.0
        waits = any(name == b"retry-after" for name, _ in lines)
        advice = should_retry(error, status, method=method, keyed=keyed, waits=waits, wait=wait)
        if advice is not None:
            add_missing(headers, [(b"x-should-retry", b"true" if advice else b"false")])


def _merge_waits(headers: list[Header], now: float) -> None:
    """Replace several lines of a header that names a wait by the longest of them, in the place of the first."""
    for name in _WAITS:
        places = [place for place, pair in enumerate(headers) if pair[0].lower() == name]
        longest = longest_line([_text(headers[place][1]) for place in places], now=now, date=_date(headers))
        if longest is None:
            continue
        headers[places[0]] = (headers[places[0]][0], longest.encode("latin-1"))
        for place in reversed(places[1:]):
            del headers[place]


def _wait(headers: list[Header], now: float) -> float:
    """The longest wait in seconds that the headers ask for; 0 without one."""
    date, waits = _date(headers), [0.0]
    for name in _WAITS:
        lines = [_text(value) for key, value in headers if key.lower() == name]
        found = wait_of({name.decode(): ", ".join(lines), "date": date}, now=now)
        waits.append(found.seconds if found is not None else 0.0)
    return max(waits)


def _date(headers: list[Header]) -> str:
    return next((_text(value) for name, value in headers if name.lower() == b"date"), "")


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def add_missing(headers: list[Header], more: Iterable[Header]) -> None:
    """Add each header of ``more`` (names in lower case) that ``headers`` does not have."""
    names = {name.lower() for name, _ in headers}
    headers.extend(pair for pair in more if pair[0] not in names)


def should_retry(
    error: ErrorBody, status: int, *, method: str, keyed: bool, waits: bool, wait: float = 0.0
) -> bool | None:
    """The value of ``x-should-retry``, which OpenAI's SDKs obey; ``None`` says nothing.

    An ambiguous failure of a request that is neither idempotent nor carries a key must not be sent again: the work
    may have been done.

    :param keyed: True if the request carries an ``Idempotency-Key``.
    :param waits: True if the response names a time to come back; a 409 that does will pass.
    :param wait: that time, in seconds from now. SDKs ignore a wait of more than a minute and retry after seconds, or
        sleep for hours in a call; both are worse than an error at once.
    """
    if wait > LONGEST_WAIT_SECONDS:
        return False
    row = next(
        (row for row in (*PAGE.values(), *STATUS.values()) if (row.code, row.status) == (error.code, status)), None
    )
    rule = (row or for_status(status)).retry
    if "insufficient_quota" in (error.type, error.code):
        return False
    if rule == "never":
        return None if waits and status == 409 else False
    return False if rule == "keyed" and method not in _IDEMPOTENT and not keyed else None
