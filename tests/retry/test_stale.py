"""Errors of other calls prove nothing about this one; and what is kept of an error that an SDK must not repeat."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import anyio
import httpx
import httpx2
import openai
import pytest

import flexmw
from flexmw.contract import CREDENTIALS
from flexmw.testing import FakeClock, HostileServer
from tests.clients.wires import WIRES, Wire
from tests.retry.outcomes import outcome
from tests.waiting import LONGEST_WAIT

both = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])


@both
def test_a_refusal_that_the_caller_is_handling_does_not_excuse_the_next_call(library: Any) -> None:
    clock = FakeClock()
    with HostileServer(then="refused-stream", tls=True, http2=True) as first, HostileServer(then="rst") as second:
        client = library.Client(http2=True, timeout=LONGEST_WAIT, verify=first.client_context(), trust_env=False)
        with flexmw.wrap_client(client, flexmw.Retry(clock=clock), clock=clock):
            try:
                client.post(first.url, json={})
            except library.RemoteProtocolError:
                with pytest.raises(library.ReadError) as lost:
                    client.post(second.url, json={})
        assert second.executions == 1
    assert outcome(lost.value).outcome == "ambiguous"


@both
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_app_whose_own_call_fails_has_worked_all_the_same(library: Any, backend: str) -> None:
    clock, ran = FakeClock(), 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal ran
        ran += 1
        async with library.AsyncClient(timeout=LONGEST_WAIT, trust_env=False) as upstream:
            await upstream.get(refused)

    async def run() -> Any:
        transport = library.ASGITransport(app)
        client = flexmw.wrap_client(library.AsyncClient(transport=transport), flexmw.Retry(clock=clock), clock=clock)
        async with client:
            with pytest.raises(library.ConnectError) as failed:
                await client.post("http://app/", json={})
        return failed.value

    server = HostileServer()
    with server, server.refusing():
        refused = server.url
        error = anyio.run(run, backend=backend)
    assert (outcome(error).outcome, outcome(error).attempts, ran) == ("ambiguous", 1, 1)


def test_what_was_given_back_keeps_no_body_alive() -> None:
    http = flexmw.wrap_client(httpx2.Client(timeout=LONGEST_WAIT, trust_env=False))
    seen: list[weakref.ref[httpx2.Request]] = []
    http.event_hooks["request"].append(lambda request: seen.append(weakref.ref(request)))
    messages: Any = [{"role": "user", "content": "hello"}]
    with (
        HostileServer(["rst"]) as server,
        openai.OpenAI(api_key="k", base_url=f"{server.url}/v1", http_client=http, max_retries=0) as sdk,
    ):
        with pytest.raises(openai.APIConnectionError):
            sdk.chat.completions.create(model="m", messages=messages)
        gc.collect()
        assert [request() for request in seen] == [None]


@pytest.mark.parametrize("wire", WIRES, ids=str)
def test_the_error_of_a_repetition_is_whole(wire: Wire) -> None:
    clock = FakeClock()
    headers = iter(["0", "1"])
    with HostileServer(["rst"]) as server:
        first, again = wire.call(
            "POST",
            server.url,
            flexmw.Retry(clock=clock),
            clock=clock,
            times=2,
            headers=lambda: {"x-stainless-retry-count": next(headers)},
        )
        assert len(server.requests) == 1
    assert (type(again), again.args, again.request.method) == (type(first), first.args, "POST")
    assert outcome(again).reason == "given_back_before"


@pytest.mark.parametrize("header", CREDENTIALS)
@pytest.mark.parametrize("wire", WIRES[:1], ids=str)
def test_an_equal_request_of_another_caller_is_no_repetition(wire: Wire, header: str) -> None:
    clock = FakeClock()
    headers = iter([{header: "a"}, {header: "b", "x-stainless-retry-count": "1"}])
    with HostileServer(["rst", "ok"]) as server:
        _, other = wire.call(
            "POST", server.url, flexmw.Retry(clock=clock), clock=clock, times=2, headers=lambda: next(headers)
        )
        assert len(server.requests) == 2
    assert other.status_code == 200
