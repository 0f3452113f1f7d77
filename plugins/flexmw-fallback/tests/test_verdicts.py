"""What goes to the next upstream, and what is given back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import httpx2
import pytest
from calls import CLIENTS, IDS, PATIENCE, SHORT, TWO, Upstreams, call
from flexmw_fallback import Fallback, Upstream

import flexmw
from flexmw.testing import FakeClock, HostileServer, check_flow
from flexmw.testing.hostile import Response, closed_port

Serve = Callable[..., Upstreams]

ANSWERED = ["400", "401", "403", "404", "422"]
AMBIGUOUS = ["503", "500", "502", "504", "408", "rst", "fin", "cut-head", "hang"]
REFUSED = ["429:seconds=30", "429", "503:seconds=30", "425"]


def test_it_behaves_inside_a_client() -> None:
    check_flow(Fallback(Upstream("https://a.test/v1"), Upstream("https://b.test/v1")))


@pytest.mark.parametrize("kind", CLIENTS, ids=IDS)
def test_a_refusal_goes_to_the_next_upstream_at_once(serve: Serve, kind: Any) -> None:
    upstreams = serve("429:seconds=30", "ok")
    result = call(upstreams, upstreams.fallback(), kind)
    a, b = (server.url for server in upstreams.servers)
    assert (result.response.status_code, upstreams.executions, upstreams.seen) == (200, [0, 1], [1, 1])
    assert upstreams.clock.slept == []
    outcome = result.outcome
    assert (outcome.outcome, outcome.upstream, outcome.attempts, outcome.maybe_billed) == ("answered", b, 2, ())
    assert [each[:3] for each in outcome.tried] == [(a, "refused", 429), (b, "answered", 200)]


@pytest.mark.parametrize("fault", REFUSED)
def test_every_refusal_goes_to_the_next_upstream(serve: Serve, fault: str) -> None:
    upstreams = serve(fault, "ok")
    result = call(upstreams, upstreams.fallback())
    assert (result.response.status_code, upstreams.executions) == (200, [0, 1])
    assert upstreams.clock.slept == []


def test_a_status_is_a_refusal_where_the_user_says_so(serve: Serve) -> None:
    upstreams = serve("529", "ok")
    assert call(upstreams, upstreams.fallback()).response.status_code == 529
    upstreams = serve(Response(529, executes=False), "ok")
    result = call(upstreams, upstreams.fallback(also={402, 529}))
    assert (result.response.status_code, upstreams.executions) == (200, [0, 1])
    assert result.outcome.tried[0].outcome == "refused"


def test_a_function_says_which_error_is_a_refusal(serve: Serve) -> None:
    sizes: list[int] = []

    def refusal(status: int, headers: Any, body: bytes) -> bool:
        sizes.append(len(body))
        return b"no capacity" in body

    full = Response(500, body=b'{"error": "no capacity"}' + b" " * 5000, executes=False)
    upstreams = serve([full, "500"], "ok")
    fallback = upstreams.fallback(refusal=refusal)
    assert call(upstreams, fallback).response.status_code == 200
    assert call(upstreams, fallback).response.status_code == 500
    assert sizes[0] == 4096
    assert upstreams.executions == [1, 1]


@pytest.mark.parametrize("kind", TWO, ids=["blocking", "async"])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_refused_connection_goes_to_the_next_upstream(serve: Serve, kind: Any, method: str, clock: FakeClock) -> None:
    upstreams = serve("ok")
    with closed_port() as first:
        fallback = Fallback(Upstream(first), Upstream(upstreams.servers[0].url), clock=clock)
        result = call(upstreams, fallback, kind, method=method, url=f"{first}/v1/jobs")
    assert (result.response.status_code, upstreams.executions, clock.slept) == (200, [1], [])
    assert result.outcome.tried[0][:3] == (first, "unsent", None)


def test_a_name_that_is_not_resolved_goes_to_the_next_upstream(serve: Serve, clock: FakeClock) -> None:
    upstreams = serve("ok")
    fallback = Fallback(Upstream("http://nowhere.invalid"), Upstream(upstreams.servers[0].url), clock=clock)
    result = call(upstreams, fallback, url="http://nowhere.invalid/v1/jobs")
    assert (result.response.status_code, upstreams.executions) == (200, [1])


@pytest.mark.parametrize("fault", ["plain-text", "handshake-hang"])
def test_a_failed_handshake_goes_to_the_next_upstream(serve: Serve, fault: str) -> None:
    upstreams = serve(fault, "ok", tls=True)
    context = upstreams.servers[1].client_context()
    timeout = httpx.Timeout(PATIENCE, connect=SHORT)
    result = call(upstreams, upstreams.fallback(), client={"verify": context, "timeout": timeout})
    assert (result.response.status_code, upstreams.executions) == (200, [0, 1])


def test_a_certificate_that_is_not_trusted_goes_to_the_next_upstream(serve: Serve, clock: FakeClock) -> None:
    upstreams = serve("ok", tls=True)
    with HostileServer(tls=True) as other:
        fallback = Fallback(Upstream(other.url), Upstream(upstreams.servers[0].url), clock=clock)
        context = upstreams.servers[0].client_context()
        result = call(upstreams, fallback, url=f"{other.url}/v1/jobs", client={"verify": context})
    assert (result.response.status_code, upstreams.executions, other.executions) == (200, [1], 0)


def test_a_proxy_that_refuses_its_tunnel_goes_to_the_next_upstream(serve: Serve) -> None:
    upstreams = serve("ok", "ok", tls=True)
    context = upstreams.servers[1].client_context()
    with HostileServer("proxy-407") as proxy:
        mounts = {upstreams.servers[0].url: httpx.HTTPTransport(proxy=proxy.url, verify=context)}
        client = httpx.Client(mounts=mounts, verify=context)
        transports = flexmw.httpx.Transport(
            upstreams.fallback(), flexmw.Retry(clock=upstreams.clock), transport=_ByHost(client), clock=upstreams.clock
        )
        with httpx.Client(transport=transports) as wrapped:
            response = wrapped.post(f"{upstreams.servers[0].url}/v1/jobs", json={})
    assert (response.status_code, upstreams.executions) == (200, [0, 1])


class _ByHost(httpx.BaseTransport):
    """Sends each request through the transport that a client has mounted for its URL."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._client._transport_for_url(request.url).handle_request(request)

    def close(self) -> None:
        self._client.close()


def test_a_pool_without_room_goes_on_and_says_nothing_of_the_upstream(serve: Serve) -> None:
    upstreams = serve("ok", "ok")
    limits = httpx.Limits(max_connections=1)
    with upstreams.wrap(
        httpx.Client(limits=limits, timeout=httpx.Timeout(PATIENCE, pool=0.05)), upstreams.fallback(failures=1)
    ) as client:
        url = f"{upstreams.servers[0].url}/v1/jobs"
        with client.stream("POST", url, json={}), pytest.raises(httpx.PoolTimeout) as caught:
            client.post(url, json={})
        assert [each.outcome for each in caught.value.flexmw.tried][:2] == ["unsent", "unsent"]
        assert client.post(url, json={}).extensions["flexmw"].upstream == upstreams.servers[0].url
    assert upstreams.executions == [2, 0]


def test_an_http2_stream_that_was_not_processed_goes_to_the_next_upstream(serve: Serve) -> None:
    upstreams = serve("refused-stream", "ok", http2=True)
    result = call(upstreams, upstreams.fallback(), client={"http1": False, "http2": True})
    assert (result.response.status_code, upstreams.executions) == (200, [0, 1])


@pytest.mark.parametrize("fault", AMBIGUOUS)
def test_a_call_that_may_have_been_executed_is_given_back(serve: Serve, fault: str) -> None:
    upstreams = serve(fault, "ok")
    result = call(upstreams, upstreams.fallback(), client={"timeout": SHORT if fault == "hang" else PATIENCE})
    assert (result.outcome.outcome, upstreams.executions, upstreams.seen) == ("ambiguous", [1, 0], [1, 0])
    assert result.outcome.upstream == upstreams.servers[0].url
    assert result.outcome.maybe_billed == ()


@pytest.mark.parametrize("fault", AMBIGUOUS)
def test_with_permission_such_a_call_goes_on_and_the_outcome_names_who_may_have_billed(
    serve: Serve, fault: str
) -> None:
    upstreams = serve(fault, "ok")
    result = call(
        upstreams, upstreams.fallback(permit=("ambiguous",)), client={"timeout": SHORT if fault == "hang" else PATIENCE}
    )
    assert (result.response.status_code, upstreams.executions) == (200, [1, 1])
    assert result.outcome.maybe_billed == (upstreams.servers[0].url,)


def test_with_permission_a_call_that_nobody_answers_stays_ambiguous(serve: Serve) -> None:
    upstreams = serve("rst", "429:seconds=600")
    result = call(upstreams, upstreams.fallback(permit=("ambiguous",)))
    assert (result.response.status_code, result.outcome.outcome) == (429, "ambiguous")


@pytest.mark.parametrize("kind", TWO, ids=["blocking", "async"])
@pytest.mark.parametrize("fault", ["503", "500", "rst"])
def test_a_safe_method_goes_on(serve: Serve, kind: Any, fault: str) -> None:
    upstreams = serve(fault, "ok")
    result = call(upstreams, upstreams.fallback(), kind, method="GET")
    assert (result.response.status_code, upstreams.seen, upstreams.clock.slept) == (200, [1, 1], [])
    assert result.outcome.maybe_billed == ()


@pytest.mark.parametrize("fault", ANSWERED)
def test_every_other_error_is_given_back(serve: Serve, fault: str) -> None:
    upstreams = serve(fault, "ok")
    result = call(upstreams, upstreams.fallback())
    assert (result.response.status_code, upstreams.seen) == (int(fault), [1, 0])
    assert (result.outcome.outcome, result.outcome.upstream) == ("answered", upstreams.servers[0].url)


@pytest.mark.parametrize("kind", TWO, ids=["blocking", "async"])
@pytest.mark.parametrize("permit", [(), ("ambiguous",)])
def test_nothing_moves_after_the_head_of_a_good_response(serve: Serve, kind: Any, permit: Any) -> None:
    upstreams = serve("cut-body", "ok")
    result = call(upstreams, upstreams.fallback(permit=permit), kind)
    assert (type(result.error).__name__, upstreams.executions) == ("RemoteProtocolError", [1, 0])
    outcome = result.outcome
    assert (outcome.outcome, outcome.upstream) == ("ambiguous", upstreams.servers[0].url)
    assert [each.outcome for each in outcome.tried] == ["answered"]


def test_an_empty_body_is_a_response(serve: Serve) -> None:
    upstreams = serve(Response(200, body=b""), "ok")
    result = call(upstreams, upstreams.fallback())
    assert (result.response.content, upstreams.executions) == (b"", [1, 0])


def test_the_body_of_the_response_is_not_touched(serve: Serve) -> None:
    body = b'{"model": "the-name-that-b-gives", "id": 1}'
    upstreams = serve("429:seconds=30", Response(200, body=body))
    result = call(upstreams, upstreams.fallback())
    assert (result.response.content, result.outcome.upstream) == (body, upstreams.servers[1].url)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_it_runs_on_trio_too(serve: Serve, backend: str) -> None:
    upstreams = serve("429:seconds=30", "ok")
    result = call(upstreams, upstreams.fallback(), (httpx2, True), backend=backend)
    assert (result.response.status_code, upstreams.executions) == (200, [0, 1])
