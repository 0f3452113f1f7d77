"""What belongs to the client: its cookies, its signatures, its end, and the options of the code around it."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx
import httpx2
import pytest

import flexmw
from flexmw.testing import FakeClock, HostileServer, play
from flexmw.testing.hostile import Exchange, Fault, Response
from tests.clients.wires import WIRES, Wire
from tests.retry.outcomes import outcome
from tests.waiting import LONGEST_WAIT

wires = pytest.mark.parametrize("wire", WIRES, ids=str)
both = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
BUSY = (("Retry-After", "1"), ("Content-Type", "application/json"))


@wires
def test_cookies_of_a_response_that_is_given_up_go_into_the_jar_and_out_with_the_next_attempt(wire: Wire) -> None:
    clock = FakeClock()
    headers = (*BUSY, ("Set-Cookie", "sticky=b; Path=/"))
    with HostileServer([Response(503, headers=headers, body={})]) as server:
        client = {"cookies": {"own": "1", "sticky": "a"}}
        first, second = wire.call("POST", server.url, flexmw.Retry(clock=clock), clock=clock, client=client, times=2)
        sent = [sorted((request.header("cookie") or "").split("; ")) for request in server.requests]
    assert (first.status_code, second.status_code) == (200, 200)
    assert sent[0] == ["own=1", "sticky=a"]
    assert sent[1] == ["own=1", "sticky=b"]
    assert "sticky=b" in sent[2]


@wires
def test_a_response_without_cookies_changes_no_cookie(wire: Wire) -> None:
    clock = FakeClock()
    with HostileServer([Response(503, headers=BUSY, body={})]) as server:
        wire.call("GET", server.url, flexmw.Retry(clock=clock), clock=clock, headers={"Cookie": "a=1; b=2"})
        assert [request.header("cookie") for request in server.requests] == ["a=1; b=2"] * 2


SIGNED = [
    {"authorization": 'Digest username="u", nonce="n", nc=00000001'},
    {"authorization": 'OAuth oauth_nonce="n", oauth_signature="s"'},
    {"authorization": 'Hawk id="i", nonce="n", mac="m"'},
    {"authorization": "DPoP token", "dpop": "proof"},
]


@pytest.mark.parametrize("headers", SIGNED, ids=lambda headers: headers["authorization"].split()[0])
def test_a_request_that_is_signed_for_once_is_not_repeated(headers: dict[str, str]) -> None:
    refusal = httpx.Response(503, headers={"retry-after": "1"}, json={})
    played = play(flexmw.Retry(), [refusal, 200], httpx.Request("GET", "http://test", headers=headers))
    assert played.count(flexmw.Send) == 1
    assert (outcome(played.response).outcome, outcome(played.response).reason) == ("refused", "signature_used")


@wires
def test_digest_authentication_sees_the_503_and_no_401(wire: Wire) -> None:
    clock = FakeClock()
    challenge = Response(401, headers=(("WWW-Authenticate", 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'),))
    with HostileServer([challenge, Response(503, headers=BUSY, body={})]) as server:
        client = {"auth": wire.library.DigestAuth("u", "p")}
        [result] = wire.call("GET", server.url, flexmw.Retry(clock=clock), clock=clock, client=client)
        assert (result.status_code, len(server.requests)) == (503, 2)


@wires
def test_a_signed_request_that_was_never_sent_is_tried_again(wire: Wire) -> None:
    clock, server = FakeClock(), HostileServer()
    with server, server.refusing():
        [error] = wire.call("POST", server.url, flexmw.Retry(clock=clock), clock=clock, headers=SIGNED[0])
    assert outcome(error).attempts == 3


# --- the end of a client ---------------------------------------------------------------------------------------------


@both
def test_closing_a_blocking_client_ends_its_waits_and_nothing_is_sent_afterwards(library: Any) -> None:
    with HostileServer(then="429:seconds=30") as server, ThreadPoolExecutor() as pool:
        client = flexmw.wrap_client(library.Client(timeout=LONGEST_WAIT, trust_env=False))
        call = pool.submit(client.post, server.url)
        server.wait_for(1, "requests")
        time.sleep(0.3)
        client.close()
        with pytest.raises(RuntimeError, match="closed") as caught:
            call.result(LONGEST_WAIT)
        assert len(server.requests) == 1
    assert (outcome(caught.value).outcome, outcome(caught.value).reason) == ("refused", "client_closed")


@pytest.mark.parametrize("wire", [wire for wire in WIRES if wire.backend], ids=str)
def test_closing_an_async_client_ends_its_waits_and_nothing_is_sent_afterwards(wire: Wire) -> None:
    async def run() -> None:
        client = flexmw.wrap_client(wire.library.AsyncClient(timeout=LONGEST_WAIT, trust_env=False))

        async def call() -> None:
            with pytest.raises(RuntimeError, match="closed") as caught:
                await client.post(server.url)
            errors.append(caught.value)

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await anyio.to_thread.run_sync(lambda: server.wait_for(1, "requests"))
            await anyio.sleep(0.3)
            await client.aclose()

    errors: list[Any] = []
    with HostileServer(then="429:seconds=30") as server:
        anyio.run(run, backend=wire.backend or "asyncio")
        assert len(server.requests) == 1
    assert [outcome(error).reason for error in errors] == ["client_closed"]


@both
def test_a_client_that_is_closed_during_an_attempt_does_not_wait_after_it(library: Any) -> None:
    async def run() -> None:
        async def respond(request: Any) -> Any:
            await client.aclose()
            return library.Response(429, headers={"retry-after": "80"}, json={})

        retry = flexmw.Retry(max_retry_after=85.0)
        client = flexmw.wrap_client(library.AsyncClient(transport=library.MockTransport(respond)), retry)
        with anyio.fail_after(LONGEST_WAIT), pytest.raises(RuntimeError, match="closed") as caught:
            await client.post("http://test")
        assert outcome(caught.value).reason == "client_closed"

    anyio.run(run)


# --- what is given up ------------------------------------------------------------------------------------------------


class Chunks(Fault):
    """A refusal whose chunk extension comes in drops: no piece of the body, and no silence either."""

    def run(self, exchange: Exchange) -> None:
        exchange.raw(b"HTTP/1.1 503 Busy\r\nRetry-After: 0.1\r\nContent-Type: application/json\r\n")
        exchange.raw(b"Transfer-Encoding: chunked\r\n\r\n2;")
        for _ in range(100):
            exchange.raw(b"x")
            exchange.pause(0.1)


@wires
def test_a_body_that_drips_between_its_pieces_holds_nobody(wire: Wire) -> None:
    with HostileServer([Chunks()]) as server:
        began = time.monotonic()
        [result] = wire.call("POST", server.url, flexmw.Retry())
        assert result.status_code == 200
        assert time.monotonic() - began < 9.0  # the whole body takes ten seconds


# --- the code around -------------------------------------------------------------------------------------------------


def test_options_reach_a_thread_that_is_handed_a_copy_of_the_context() -> None:
    policy = flexmw.Retry(attempts=4)
    with flexmw.retry_options(attempts=2), ThreadPoolExecutor(1) as pool:
        assert pool.submit(contextvars.copy_context().run, policy.for_call, {}).result() == flexmw.Retry(attempts=2)


def test_options_in_a_generator_that_another_context_ends_raise_nothing() -> None:
    def dependency() -> Iterator[None]:
        with flexmw.retry_options(attempts=2):
            yield

    generator = dependency()
    contextvars.copy_context().run(next, generator)
    assert contextvars.copy_context().run(next, generator, "ended") == "ended"


@pytest.mark.parametrize("covered", ["prefer", "cookie"])
def test_a_header_that_a_signature_covers_is_the_same_in_each_attempt(covered: str) -> None:
    """A 503 sets a cookie, and an honoured key makes the repetition ask for a wait: both would change the headers."""
    requests: list[Any] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(503, headers={"set-cookie": "b=2"}) if len(requests) == 1 else httpx.Response(200)

    retry = flexmw.Retry(key_origins=["http://a"], clock=FakeClock())
    headers = {
        "idempotency-key": "k",
        "prefer": "respond-async",
        "cookie": "a=1",
        "signature-input": f'sig=("@method" "{covered}");created=1',
    }
    with flexmw.wrap_client(httpx.Client(transport=httpx.MockTransport(handler)), retry) as client:
        assert client.post("http://a/", headers=headers, timeout=60.0).status_code == 200
    first, second = (dict(request.headers) for request in requests)
    assert {name for name in ("prefer", "cookie") if first[name] != second[name]} == {"prefer", "cookie"} - {covered}
