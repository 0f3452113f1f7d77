"""The client face: an upstream's errors reach the caller in the contract's shape, whoever on the way has made them.

>>> import httpx, flexmw
>>> page = httpx.Response(502, headers={"content-type": "text/html"}, content=b"<h1>502 Bad Gateway</h1>nginx")
>>> transport = flexmw.httpx.Transport(flexmw.Envelope(), transport=httpx.MockTransport(lambda request: page))
>>> with httpx.Client(transport=transport) as client:
...     error_from(client.get("http://upstream/v1/models"))
APIError(status_code=502, detail='Bad gateway.')
"""

from __future__ import annotations

import time
from typing import Any, Final

from flexmw.contract import wait_of
from flexmw.envelope.core import AppResponse, Header, Rules, decide, is_of_body
from flexmw.envelope.dialect import Dialect
from flexmw.errors import (
    APIError,
    ConfigError,
    InsufficientCredit,
    InvalidAPIKey,
    InvalidRequest,
    JobNotFound,
    ModelNotFound,
    RateLimitExceeded,
    SubsystemOffline,
    UpstreamTimeout,
    raised,
)
from flexmw.kit.effects import Flow, Read, Replace, Request, Response, Send

__all__ = ["error_from", "translate"]


def translate(request: Request, rules: Rules, dialect: Dialect) -> Flow:
    """Send a request; an error answer whose body is not in the contract's shape gets one that is.

    Good answers, errors that keep the contract, those of other protocols and event streams are left byte for byte.
    The status is the upstream's in any case.
    """
    response: Response = yield Send(request)
    status = response.status_code
    kind = response.headers.get("content-type", "")
    if status < 400 or request.method == "HEAD" or kind.lower().startswith("text/event-stream"):
        return response
    body = yield Read(response, rules.max_body)
    reply = decide(AppResponse(status, tuple(_raw(response)), body), rules)
    if reply.kept:
        return response
    written = dialect.render(reply.error, status=status, request_id=response.headers.get("x-request-id"))
    for name in {name for name in response.headers if is_of_body(name.lower().encode("latin-1"), status)}:
        del response.headers[name]
    response.headers["content-type"] = dialect.media_type
    response.headers["content-length"] = str(len(written))
    replaced: Response = yield Replace(response, written)
    return replaced


def _raw(response: Response) -> list[Header]:
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in response.headers.items()
    ]


_KINDS: Final[tuple[type[APIError], ...]] = (
    InvalidRequest,
    ModelNotFound,
    InvalidAPIKey,
    InsufficientCredit,
    JobNotFound,
    RateLimitExceeded,
    UpstreamTimeout,
    SubsystemOffline,
)


def _kind_of(status: int, code: str | None) -> type[APIError]:
    return next((kind for kind in _KINDS if kind.row and (kind.row.status, kind.row.code) == (status, code)), APIError)


def error_from(response: Any, *, now: float | None = None) -> APIError:
    """The error that an httpx or httpx2 response is, as the kind with its status and code (else ``APIError`` itself).

    The body must have been read. Any shape is understood that the Envelope understands. ``request_id`` and
    ``retry_after`` (seconds) are set where the response has them.

    :param now: Unix seconds; the clock's, when left out. Only for responses that name a date and carry none.
    :raises ConfigError: for a response that is no error.
    """
    status: int = response.status_code
    if not 400 <= status <= 599:
        raise ConfigError("error_from(response)", status, "an error response, status 400 to 599")
    headers = {name.lower(): value for name, value in response.headers.items()}
    plain = tuple(pair for pair in _raw(response) if pair[0] != b"content-encoding")
    reply = decide(AppResponse(status, plain, response.content), Rules())
    wait = wait_of(headers, now=time.time() if now is None else now)
    kind = _kind_of(status, reply.error.code)
    error = kind.__new__(kind)
    token = raised.set(None)  # this is another server's answer: a host that makes it here has not given it
    try:
        APIError.__init__(
            error,
            reply.error.message,
            status=status,
            type=reply.error.type,
            code=reply.error.code,
            param=reply.error.param,
            doc_url=reply.error.doc_url,
        )
    finally:
        raised.reset(token)
    error.request_id = headers.get("x-request-id")
    error.retry_after = wait.seconds if wait is not None else None
    return error
