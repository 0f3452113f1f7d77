from __future__ import annotations

from typing import Any

import anyio
import httpx
import httpx2
import pytest
from acme_cache import Cache

import flexmw
from flexmw.testing import FakeClock, HostileServer, check_flow, play
from flexmw.testing.hostile import Response

URL = "https://api.test/models"
KEPT = {"cache-control": "max-age=60"}


def get(headers: dict[str, str] | None = None) -> httpx.Request:
    return httpx.Request("GET", URL, headers=headers)


def sent(cache: Cache, response: httpx.Response, request: httpx.Request | None = None) -> int:
    """How often one call is sent."""
    return play(cache, [response], request or get()).count(flexmw.Send)


def response(headers: dict[str, str] | None = None, status: int = 200) -> httpx.Response:
    return httpx.Response(status, headers=headers, content=b"models")


def test_it_behaves_inside_a_client() -> None:
    check_flow(Cache())


def test_a_response_is_kept_for_its_max_age() -> None:
    clock = FakeClock()
    cache = Cache(clock=clock)
    assert sent(cache, response(KEPT | {"age": "10"})) == 1
    clock.advance(49)
    played = play(cache, [response()], get())
    assert (played.count(flexmw.Send), played.count(flexmw.Emit)) == (0, 1)
    played.response.read()
    assert (played.response.content, played.response.headers["age"]) == (b"models", "59")
    clock.advance(1)
    assert sent(cache, response()) == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"cache-control": "max-age=0"}, 200),
        ({"cache-control": "max-age=60, private"}, 200),
        ({"cache-control": "no-store, max-age=60"}, 200),
        (KEPT | {"set-cookie": "a=1"}, 200),
        (KEPT | {"vary": "x-tenant"}, 200),
        (KEPT, 404),
    ],
)
def test_what_may_not_be_kept_is_sent_again(headers: dict[str, str], status: int) -> None:
    cache = Cache()
    assert [sent(cache, response(headers, status)) for _ in range(2)] == [1, 1]


@pytest.mark.parametrize("headers", [{"authorization": "Bearer x"}, {"cookie": "a=1"}, {"range": "bytes=0-1"}])
def test_a_request_of_one_caller_passes(headers: dict[str, str]) -> None:
    cache = Cache()
    assert [sent(cache, response(KEPT), get(headers)) for _ in range(2)] == [1, 1]


def test_a_caller_who_wants_a_new_response_gets_one_and_others_get_it_too() -> None:
    cache = Cache()
    sent(cache, response(KEPT))
    assert sent(cache, httpx.Response(200, headers=KEPT, content=b"new"), get({"cache-control": "no-cache"})) == 1
    played = play(cache, [response()], get())
    assert played.response.read() == b"new"


def test_a_response_is_kept_for_one_language() -> None:
    cache = Cache()
    assert [sent(cache, response(KEPT), get({"accept-language": each})) for each in ("en", "de", "en")] == [1, 1, 0]


def test_a_body_that_is_too_long_passes_whole() -> None:
    cache = Cache(max_bytes=5)
    played = play(cache, [response(KEPT)], get())
    assert played.response.content == b"models"
    assert sent(cache, response(KEPT)) == 1


def test_the_response_that_was_used_longest_ago_goes_first() -> None:
    cache = Cache(max_entries=2)
    urls = [f"{URL}/{number}" for number in range(3)]
    for url in (urls[0], urls[1], urls[0], urls[2]):
        sent(cache, response(KEPT), httpx.Request("GET", url))
    kept = [sent(cache, response(), httpx.Request("GET", url)) == 0 for url in urls]
    assert kept == [True, False, True]


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_real_client_reads_a_kept_response_like_any_other(library: Any) -> None:
    fault = Response(200, body=b"models", headers=(("cache-control", "max-age=60"),))
    with HostileServer([fault], then="500") as server, flexmw.wrap_client(library.Client(), Cache()) as client:
        texts = [client.get(server.url).text for _ in range(3)]
        with client.stream("GET", server.url) as streamed:
            texts.append(b"".join(streamed.iter_raw()).decode())
        assert server.executions == 1
    assert texts == ["models"] * 4


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_real_async_client_does_so_too(library: Any) -> None:
    fault = Response(200, body=b"models", headers=(("cache-control", "max-age=60"),))

    async def calls(url: str) -> list[str]:
        async with flexmw.wrap_client(library.AsyncClient(), Cache()) as client:
            texts = [(await client.get(url)).text for _ in range(3)]
            async with client.stream("GET", url) as streamed:
                texts.append(b"".join([chunk async for chunk in streamed.aiter_raw()]).decode())
            return texts

    with HostileServer([fault], then="500") as server:
        assert anyio.run(calls, server.url) == ["models"] * 4
        assert server.executions == 1


def test_it_belongs_outside_retry() -> None:
    with pytest.raises(flexmw.ConfigError, match=r"right is: acme\.cache, retry"):
        flexmw.wrap_client(httpx.Client(), flexmw.Retry(), Cache())


@pytest.mark.parametrize(("option", "value"), [("max_entries", 0), ("max_bytes", 1.5), ("max_bytes", True)])
def test_options_that_cannot_work_are_refused(option: str, value: Any) -> None:
    with pytest.raises(flexmw.ConfigError, match=option):
        Cache(**{option: value})
