"""The client side: foreign errors of an upstream, over real sockets, through httpx and httpx2, blocking and async."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import httpx2
import openai
import pytest

import flexmw
from flexmw.contract import ErrorBody
from flexmw.envelope import error_from
from flexmw.errors import raised
from tests.envelope.apps import ENVELOPE
from tests.servers import Serve
from tests.wire import scripted

PAGE = b"<!doctype html><title>502 Bad Gateway</title><h1>502 Bad Gateway</h1>nginx"
JSON = (b"content-type", b"application/json")


def app(status: int, body: bytes, *headers: tuple[bytes, bytes]) -> Any:
    return scripted(
        {"type": "http.response.start", "status": status, "headers": list(headers)},
        {"type": "http.response.body", "body": body},
    )


def get_httpx(url: str, **options: Any) -> Any:
    with httpx.Client(transport=flexmw.httpx.Transport(flexmw.Envelope(**options))) as client:
        return client.get(url)


def get_httpx2(url: str, **options: Any) -> Any:
    with httpx2.Client(transport=flexmw.httpx2.Transport(flexmw.Envelope(**options))) as client:
        return client.get(url)


def get_async(url: str, **options: Any) -> Any:
    async def run() -> Any:
        transport = flexmw.httpx.AsyncTransport(flexmw.Envelope(**options))
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.get(url)

    return anyio.run(run)


def get_async2(url: str, **options: Any) -> Any:
    async def run() -> Any:
        transport = flexmw.httpx2.AsyncTransport(flexmw.Envelope(**options))
        async with httpx2.AsyncClient(transport=transport) as client:
            return await client.get(url)

    return anyio.run(run)


@pytest.fixture(params=[get_httpx, get_httpx2, get_async, get_async2], ids=["httpx", "httpx2", "async", "async2"])
def get(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return request.param  # type: ignore[no-any-return]


def test_a_proxys_page_becomes_the_envelope_and_the_rest_of_the_headers_stays(get: Any, serve: Serve) -> None:
    served = serve(app(502, PAGE, (b"content-type", b"text/html"), (b"etag", b'"1"'), (b"x-via", b"nginx")))
    answer = get(served.url)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "bad_gateway")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == str(len(answer.content))
    assert answer.headers["x-via"] == "nginx"
    assert "etag" not in answer.headers


def test_a_compressed_problem_is_read(get: Any, serve: Serve) -> None:
    body = gzip.compress(b'{"type": "about:blank", "title": "T", "detail": "No seats left."}')
    served = serve(app(409, body, (b"content-encoding", b"gzip"), (b"content-type", b"application/problem+json")))
    assert get(served.url).json()["error"]["message"] == "No seats left."


def test_an_error_in_shape_and_a_good_response_stay_byte_for_byte(get: Any, serve: Serve) -> None:
    assert get(serve(app(418, ENVELOPE, JSON)).url).content == ENVELOPE
    assert get(serve(app(200, PAGE)).url).content == PAGE


def test_a_compressed_error_in_shape_is_still_readable(get: Any, serve: Serve) -> None:
    served = serve(app(418, gzip.compress(ENVELOPE), JSON, (b"content-encoding", b"gzip")))
    assert get(served.url).content == ENVELOPE


def test_a_body_that_is_too_long_is_replaced_and_its_connection_given_back(get: Any, serve: Serve) -> None:
    served = serve(app(503, b"x" * 1_000_000))
    assert get(served.url).json()["error"]["code"] == "service_unavailable"


def test_an_error_of_another_protocol_reads_the_same_from_its_start(get: Any, serve: Serve) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"No."}}'
    assert get(serve(app(404, body, JSON)).url).content == body


def test_event_streams_and_excepted_paths_are_not_touched(get: Any, serve: Serve) -> None:
    served = serve(app(500, b"data: 1\n\n", (b"content-type", b"text/event-stream")))
    assert get(served.url).content == b"data: 1\n\n"
    served = serve(app(500, b"plain"))
    assert get(f"{served.url}/raw/x", passthrough=("/raw",)).content == b"plain"


def test_a_body_that_breaks_off_is_a_transport_error(serve: Serve) -> None:
    served = serve(app(500, b"short", (b"content-length", b"99")))
    with pytest.raises(httpx.RemoteProtocolError):
        get_httpx(served.url)


def stalled(status: int, media_type: bytes) -> Any:
    """An app whose error body stops in its middle, until the client leaves."""

    async def run(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", media_type), (b"content-length", b"99")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"detail": "x', "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    return run


def test_a_body_that_stalls_holds_a_call_no_longer_than_max_wait(get: Any, serve: Serve) -> None:
    answer = get(serve(stalled(503, b"application/json")).url, max_wait=0.1)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "service_unavailable")


def test_a_stalled_body_that_is_not_rewritten_is_a_read_timeout(get: Any, serve: Serve) -> None:
    with pytest.raises((httpx.ReadTimeout, httpx2.ReadTimeout), match=r"did not arrive within 0\.1 s"):
        get(serve(stalled(503, b"application/scim+json")).url, max_wait=0.1)


def test_an_error_can_be_read_as_a_stream_too(serve: Serve) -> None:
    served = serve(app(502, PAGE, (b"content-type", b"text/html")))
    with (
        httpx.Client(transport=flexmw.httpx.Transport(flexmw.Envelope())) as client,
        client.stream("GET", served.url) as answer,
    ):
        assert ErrorBody.decode(b"".join(answer.iter_raw())) is not None


def test_the_openai_sdk_gets_a_readable_error_from_a_proxys_page(serve: Serve) -> None:
    served = serve(app(404, b"No such deployment.", (b"content-type", b"text/plain")))
    http = httpx2.Client(transport=flexmw.httpx2.Transport(flexmw.Envelope()))
    with (
        openai.OpenAI(api_key="k", base_url=served.url, http_client=http, max_retries=0) as client,
        pytest.raises(openai.NotFoundError) as caught,
    ):
        client.models.list()
    assert caught.value.code == "not_found"
    assert "No such deployment." in str(caught.value)


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_response_of_a_mock_transport_is_rewritten_too(library: Any) -> None:
    answer = library.Response(502, headers={"content-encoding": "gzip"}, content=gzip.compress(PAGE))
    client = library.Client(transport=library.MockTransport(lambda request: answer))
    with flexmw.wrap_client(client, flexmw.Envelope()) as client:
        assert client.get("http://upstream/").json()["error"]["code"] == "bad_gateway"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "model_not_found", flexmw.ModelNotFound),
        (402, "402", flexmw.InsufficientCredit),
        (429, "rate_limit_exceeded", flexmw.RateLimitExceeded),
        (404, "job_not_found", flexmw.JobNotFound),
        (404, "other", flexmw.APIError),
        (500, "upstream_timeout", flexmw.UpstreamTimeout),
    ],
)
def test_error_from_gives_the_kind_with_everything_the_response_says(status: int, code: str, kind: type) -> None:
    body = {"error": {"message": "m", "type": "t", "code": code, "param": "p"}}
    error = error_from(httpx.Response(status, headers={"x-request-id": "r", "retry-after-ms": "1500"}, json=body))
    assert type(error) is kind
    assert (error.status, error.message, error.type, error.code, error.param) == (status, "m", "t", code, "p")
    assert (error.request_id, error.retry_after) == ("r", 1.5)


def test_error_from_reads_foreign_and_compressed_bodies() -> None:
    body = gzip.compress(json.dumps({"detail": "Packed."}).encode())
    error = error_from(httpx2.Response(404, headers={"content-encoding": "gzip"}, content=body))
    assert (error.message, error.code, error.retry_after) == ("Packed.", "not_found", None)


@pytest.mark.parametrize(("status", "expected"), [(429, 30.0), (404, None), (503, None)])
def test_error_from_takes_the_reset_of_a_limit_for_a_wait_only_where_the_limit_has_refused(
    status: int, expected: float | None
) -> None:
    limit = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59"}
    headers = limit | {"x-ratelimit-reset-requests": "30s"}
    assert error_from(httpx.Response(status, headers=headers, json={})).retry_after == expected


def test_error_from_refuses_a_good_response() -> None:
    with pytest.raises(flexmw.ConfigError, match="error response"):
        error_from(httpx.Response(200))


def test_an_upstreams_error_is_not_taken_for_the_hosts_own() -> None:
    told: list[flexmw.APIError] = []
    token = raised.set(told.append)
    try:
        error_from(httpx.Response(404))
    finally:
        raised.reset(token)
    assert told == []
