"""Client side of Envelope: rewrite an upstream's error responses in the contract's format.

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
from flexmw.contract.content import is_event_stream
from flexmw.contract.error_headers import describes_body
from flexmw.envelope.core import AppResponse, Header, Rules, decide
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
    received,
)
from flexmw.kit.effects import Flow, Read, Replace, Request, Response, Send

__all__ = ["error_from", "translate"]


def translate(request: Request, rules: Rules, dialect: Dialect, max_wait: float) -> Flow:
    """Send a request, and rewrite the body of an error response that does not keep the contract.

    A good response, an error in a dialect's format, an error of another protocol and an event stream do not change. The
    status never changes.
    """
    response: Response = yield Send(request)
    status = response.status_code
    if status < 400 or request.method == "HEAD" or is_event_stream(_raw_headers(response)):
        return response
    body = yield Read(response, rules.max_body, max_wait, request=request)
    decision = decide(AppResponse(status, tuple(_raw_headers(response)), body), rules)
    if decision.kept:
        return response
    written = dialect.render(decision.error, status=status, request_id=response.headers.get("x-request-id"))
    for name in {name for name in response.headers if describes_body(name.lower().encode("latin-1"), status)}:
        del response.headers[name]
    response.headers["content-type"] = dialect.media_type
    response.headers["content-length"] = str(len(written))
    replaced: Response = yield Replace(response, written)
    return replaced


def _raw_headers(response: Response) -> list[Header]:
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
    """Make the typed error of an httpx or httpx2 error response.

    The type is the subclass of ``APIError`` with the response's status and code, else ``APIError`` itself. The error's
    ``request_id`` and ``retry_after`` (seconds) are set where the response has them. The error is not reported to an
    Envelope around the caller; see :func:`flexmw.errors.received`.

    :param response: the response. Its body must have been read; the body may have any format that Envelope understands.
    :param now: the time in Unix seconds, for a response with a date in ``Retry-After`` and without ``Date``. Default:
        the time of the system's clock.
    :raises ConfigError: the status is not 400 to 599.
    """
    status: int = response.status_code
    if not 400 <= status <= 599:
        raise ConfigError("error_from(response)", status, "an error response, status 400 to 599")
    headers = {name.lower(): value for name, value in response.headers.items()}
    plain = tuple(pair for pair in _raw_headers(response) if pair[0] != b"content-encoding")
    body = decide(AppResponse(status, plain, response.content), Rules()).error
    wait = wait_of(headers, now=time.time() if now is None else now, status=status)
    error = received(_kind_of(status, body.code), status, body)
    error.request_id = headers.get("x-request-id")
    error.retry_after = wait.seconds if wait is not None else None
    return error
