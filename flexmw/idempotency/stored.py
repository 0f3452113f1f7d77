"""Which responses are stored for replay, and which of their headers.

>>> is_stored(200, []), is_stored(429, []), is_stored(503, []), is_stored(503, [(b"retry-after", b"1")])
(True, False, True, False)
>>> lasting_headers([(b"content-type", b"text/plain"), (b"Date", b"..."), (b"x-auth-token", b"secret")])
(('content-type', 'text/plain'),)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final, TypeAlias

from flexmw.contract import ErrorBody, for_status
from flexmw.contract.error_headers import describes_body
from flexmw.contract.refusals import INCONCLUSIVE, REFUSED_WITH_RETRY_AFTER
from flexmw.contract.secret_families import SECRET_RESPONSE_HEADER
from flexmw.idempotency.core import StoredResponse

__all__ = ["error_response", "internal_error", "is_stored", "lasting_headers"]

Header: TypeAlias = tuple[bytes, bytes]

# fmt: off
_VOLATILE: Final = frozenset({
    "age", "alt-svc", "connection", "cf-ray", "date", "idempotency-key-ttl", "idempotent-replayed",
    "idempotent-stream", "keep-alive",
    "nel", "proxy-authenticate", "proxy-connection", "ratelimit", "ratelimit-policy", "report-to", "request-id",
    "retry-after", "retry-after-ms", "server", "server-timing", "set-cookie", "te", "traceparent", "tracestate",
    "trailer", "transfer-encoding", "upgrade", "via", "x-amzn-trace-id", "x-b3-traceid", "x-correlation-id",
    "x-process-time", "x-request-id", "x-response-time", "x-runtime", "x-should-retry", "x-trace-id",
})
# fmt: on
_VOLATILE_PREFIXES: Final = ("x-ratelimit-", "anthropic-ratelimit-")
"""Headers of one response and not of the result: times, hops, limits, request ids, cookies. They are not stored."""

_LONGEST_NAME: Final = 64
_MAX_NAMES: Final = 1024
"""Header names that are remembered, and bytes of the longest of them."""


def is_stored(status: int, headers: Iterable[tuple[bytes, bytes]], *, is_anonymous: bool = False) -> bool:
    """Whether a response is stored. If not, nothing was done, and the key can be used again at once.

    :param status: the HTTP status of the response.
    :param headers: its headers.
    :param is_anonymous: the caller has shown no credential. A 403 then means that one is missing: without it, callers
        who are not let in could fill the store.
    """
    if is_anonymous and status == 403:
        return False
    if status in REFUSED_WITH_RETRY_AFTER:
        return all(name.lower() != b"retry-after" for name, _ in headers)
    return status not in INCONCLUSIVE


def lasting_headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """The headers that belong to the result, with lower-case names and in their order.

    A header that gives the client a credential does not belong to it: the credential would lie in the store in the
    clear, and a repetition would get it again.
    """
    return tuple(
        [(lasting, value.decode("latin-1")) for name, value in headers if (lasting := _LASTING[name]) is not None]
    )


class _LastingNames(dict[bytes, "str | None"]):
    """The name under which a header is stored, by its name in the response; ``None`` for one that is not stored.

    Apps send few different names. Lookups of long names remember nothing.
    """

    def __missing__(self, name: bytes) -> str | None:
        text = name.decode("latin-1").lower()
        is_volatile = text in _VOLATILE or text.startswith(_VOLATILE_PREFIXES)
        lasting = None if is_volatile or SECRET_RESPONSE_HEADER.search(text) else text
        if len(name) <= _LONGEST_NAME:
            if len(self) >= _MAX_NAMES:
                self.clear()
            self[name] = lasting
        return lasting


_LASTING: Final = _LastingNames()


def error_response(
    status: int, body: bytes, headers: Iterable[Header] = (), *, replaced: Iterable[Header] = ()
) -> StoredResponse:
    """An error of the contract as it is stored: a JSON body, with the headers that belong to the result.

    :param headers: those of the error.
    :param replaced: those of a response whose body the error replaces.
    """
    fixed = (("content-type", "application/json"), ("content-length", str(len(body))))
    names = {name for name, _ in fixed}
    others = (*headers, *(header for header in replaced if not describes_body(header[0].lower(), status)))
    lasting = tuple(header for header in lasting_headers(others) if header[0] not in names)
    return StoredResponse(status=status, headers=fixed + lasting, body=body, size=len(body))


def internal_error(*, sent_bytes: int) -> StoredResponse:
    """The 500 ``internal_error`` that is stored in place of a response that the app broke off.

    Its ``size`` is not the length of its body: no client that continues the broken response gets these bytes as the
    rest.

    :param sent_bytes: bytes of the response if it was too long to be kept, otherwise 0.
    """
    row = for_status(500)
    response = error_response(row.status, ErrorBody(message=row.message, type=row.type, code=row.code).encode())
    return replace(response, size=sent_bytes)
