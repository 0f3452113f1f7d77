from __future__ import annotations

import json
from typing import Any

import pytest

from flexmw.errors import APIError, JobNotFound, RateLimitExceeded
from flexmw.kit.asgi import raw_headers, send_error
from flexmw.kit.exchange import Exchange


async def refused(scope: dict[str, Any], error: APIError) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await send_error(scope, send, error)
    return sent


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
async def test_an_error_is_sent_whole_with_the_exchange_s_headers(method: str) -> None:
    scope: dict[str, Any] = {"type": "http", "method": method}
    Exchange.of(scope).headers += [(b"x-request-id", b"r1"), (b"retry-after", b"99")]
    error = RateLimitExceeded(2)
    start, body = await refused(scope, error)
    assert (start["type"], start["status"]) == ("http.response.start", 429)
    assert start["headers"] == [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(error.body.encode())).encode()),
        (b"retry-after", b"2"),
        (b"retry-after-ms", b"2000"),
        (b"x-request-id", b"r1"),
    ]
    assert body == {"type": "http.response.body", "body": b"" if method == "HEAD" else error.body.encode()}
    assert json.loads(error.body.encode())["error"]["code"] == "rate_limit_exceeded"


@pytest.mark.anyio
@pytest.mark.parametrize("extensions", [None, {}, {"tls": {}}])
async def test_a_websocket_is_closed_where_no_denial_can_be_sent(extensions: Any) -> None:
    sent = await refused({"type": "websocket", "extensions": extensions}, JobNotFound())
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": "job_not_found"}]
    [long] = await refused({"type": "websocket"}, JobNotFound(code="x" * 500))
    assert len(long["reason"]) <= 123, "RFC 6455 section 5.5"


@pytest.mark.anyio
async def test_a_websocket_is_denied_like_a_request_where_the_server_can() -> None:
    scope = {"type": "websocket", "extensions": {"websocket.http.response": {}}}
    start, body = await refused(scope, JobNotFound())
    assert (start["type"], start["status"], body["type"]) == (
        "websocket.http.response.start",
        404,
        "websocket.http.response.body",
    )
    assert body["body"] == JobNotFound().body.encode()


def test_headers_become_lower_case_latin_1_pairs() -> None:
    assert raw_headers(None) == []
    assert raw_headers({"X-A": "é"}) == [(b"x-a", b"\xe9")]
    assert raw_headers([("A", "1"), ("A", "2"), ("b", "\N{SNOWMAN}")]) == [(b"a", b"1"), (b"a", b"2"), (b"b", b"?")]
