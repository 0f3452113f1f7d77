"""The headers that every error response gets, whoever in the app has made the response. Pure.

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

__all__ = ["add_error_headers", "add_missing", "should_retry"]

Header = tuple[bytes, bytes]

_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
"""RFC 9110 section 9.2.2."""


def add_error_headers(
    headers: list[Header],
    status: int,
    error: ErrorBody,
    *,
    method: str = "GET",
    keyed: bool = False,
    request_id: Header | None = None,
    retry_advice: bool = False,
) -> None:
    """Add to the headers of an error response, in place, what every error response carries.

    A header that the response has already keeps its value.

    :param headers: the response's headers, complete but for what is added here; added names are in lower case.
    :param status: the response's status, 400 to 599.
    :param error: the error object in the response's body.
    :param method: the request's method.
    :param keyed: True if the request carries an ``Idempotency-Key``.
    :param request_id: the header that identifies the request; ``None`` adds none.
    :param retry_advice: True to add ``x-should-retry`` where :func:`should_retry` has an opinion.
    """
    if request_id is not None:
        add_missing(headers, [request_id])
    if retry_advice:
        waits = any(name.lower() == b"retry-after" for name, _ in headers)
        advice = should_retry(error, status, method=method, keyed=keyed, waits=waits)
        if advice is not None:
            add_missing(headers, [(b"x-should-retry", b"true" if advice else b"false")])


def add_missing(headers: list[Header], more: Iterable[Header]) -> None:
    """Add those of ``more`` (names in lower case) whose names ``headers`` lacks."""
    names = {name.lower() for name, _ in headers}
    headers.extend(pair for pair in more if pair[0] not in names)


def should_retry(error: ErrorBody, status: int, *, method: str, keyed: bool, waits: bool) -> bool | None:
    """The value of ``x-should-retry``, which OpenAI's SDKs obey; ``None`` says nothing.

    An ambiguous failure of a request that is neither idempotent nor carries a key must not be sent again: the work
    may have been done.

    :param keyed: True if the request carries an ``Idempotency-Key``.
    :param waits: True if the response names a time to come back; a 409 that does will pass.
    """
    row = next(
        (row for row in (*PAGE.values(), *STATUS.values()) if (row.code, row.status) == (error.code, status)), None
    )
    rule = (row or for_status(status)).retry
    if "insufficient_quota" in (error.type, error.code):
        return False
    if rule == "never":
        return None if waits and status == 409 else False
    return False if rule == "keyed" and method not in _IDEMPOTENT and not keyed else None
