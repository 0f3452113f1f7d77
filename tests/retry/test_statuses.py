"""What responses mean: statuses, proxies that answer for an origin, quotas, and the user's own function."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest

import flexmw
from flexmw.testing import FakeClock, HostileServer, play
from flexmw.testing.hostile import Exchange, Fault, Response
from tests.clients.wires import WIRES, Wire
from tests.retry.outcomes import outcome

CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.compress,
    "br": lambda body: pytest.importorskip("brotli").compress(body),  # type: ignore[no-any-return]
    "zstd": lambda body: pytest.importorskip("zstandard").compress(body),  # type: ignore[no-any-return]
}

wires = pytest.mark.parametrize("wire", WIRES, ids=str)
QUOTA = {"error": {"message": "m", "type": "insufficient_quota", "code": "insufficient_quota", "param": None}}


def call(wire: Wire, method: str, url: str, clock: FakeClock, /, **options: Any) -> Any:
    request = {"json": {"n": 1}} if method == "POST" else {}
    [result] = wire.call(method, url, flexmw.Retry(clock=clock, **options), clock=clock, **request)
    return result


@wires
@pytest.mark.parametrize("status", [507, 520, 522, 524, 529, 530, 599])
def test_an_unknown_5xx_is_as_ambiguous_as_a_500(wire: Wire, status: int) -> None:
    clock = FakeClock()
    with HostileServer([Response(status)]) as server:
        given = call(wire, "POST", server.url, clock)
        assert (given.status_code, outcome(given).outcome, outcome(given).reason) == (
            status,
            "ambiguous",
            "unsafe_method",
        )
    with HostileServer([Response(status)]) as server:
        assert call(wire, "GET", server.url, clock).status_code == 200


@wires
@pytest.mark.parametrize(
    "headers", [(("Retry-After", "1"),), (("x-should-retry", "true"),), (("Retry-After", "0"),)], ids=str
)
@pytest.mark.parametrize("status", [503, 529])
def test_an_overloaded_origin_that_says_when_to_come_back_has_refused(wire: Wire, status: int, headers: Any) -> None:
    clock = FakeClock()
    with HostileServer([Response(status, headers=headers, executes=False)]) as server:
        result = call(wire, "POST", server.url, clock, random=lambda: 0.5)
        assert (result.status_code, server.executions, len(server.requests)) == (200, 1, 2)
    assert clock.slept[0] > 0.2, "a zero is no wait: the backoff stays"


TEXT = (("Retry-After", "5"), ("Content-Type", "text/html; charset=utf-8"), ("Server", "Varnish"))


@wires
@pytest.mark.parametrize(("trust", "sent"), [("json", 1), ("never", 1), ("any", 2)])
def test_a_503_without_json_may_be_a_proxy_that_has_lost_the_response(wire: Wire, trust: str, sent: int) -> None:
    clock = FakeClock()
    with HostileServer([Response(503, headers=TEXT, body="<h1>Backend fetch failed</h1>", executes=True)]) as server:
        result = call(wire, "POST", server.url, clock, refused_503=trust)
        assert len(server.requests) == sent
    assert outcome(result).outcome == ("answered" if sent == 2 else "ambiguous")


@wires
def test_such_a_503_is_a_refusal_to_a_get_and_with_x_should_retry(wire: Wire) -> None:
    clock = FakeClock()
    with HostileServer([Response(503, headers=TEXT, body="x")]) as server:
        assert call(wire, "GET", server.url, clock).status_code == 200
    with HostileServer([Response(503, headers=(*TEXT, ("x-should-retry", "true")), body="x")]) as server:
        assert call(wire, "POST", server.url, clock).status_code == 200


def test_never_means_json_neither() -> None:
    policy = flexmw.Retry(refused_503="never")
    refusal = httpx.Response(503, headers={"retry-after": "1"}, json={})
    played = play(policy, [refusal, 200], httpx.Request("POST", "http://test"))
    assert played.count(flexmw.Send) == 1
    assert outcome(played.response).outcome == "ambiguous"


@wires
def test_a_404_that_lighttpd_writes_for_an_origin_that_fell_silent_is_ambiguous(wire: Wire) -> None:
    clock = FakeClock()
    page = Response(
        404, headers=(("Server", "lighttpd/1.4.69"), ("Content-Type", "text/html")), body="404", executes=True
    )
    with HostileServer(then=page) as server:
        assert outcome(call(wire, "POST", server.url, clock)).outcome == "ambiguous"
        assert outcome(call(wire, "GET", server.url, clock)).outcome == "answered"
        assert len(server.requests) == 2


@wires
@pytest.mark.parametrize("coding", CODINGS)
def test_a_quota_that_is_used_up_is_not_waited_for(wire: Wire, coding: str) -> None:
    clock, body = FakeClock(), json.dumps(QUOTA).encode()
    headers = (("Content-Type", "application/json"), ("Content-Encoding", coding))
    with HostileServer(then=Response(429, headers=headers, body=CODINGS[coding](body))) as server:
        result = call(wire, "POST", server.url, clock)
        assert (len(server.requests), clock.slept) == (1, [])
    assert (outcome(result).outcome, outcome(result).reason) == ("refused", "insufficient_quota")
    assert result.json() == QUOTA


@wires
def test_a_429_whose_body_comes_in_drops_is_retried_in_time(wire: Wire) -> None:
    class Drops(Fault):
        def run(self, exchange: Exchange) -> None:
            exchange.start(429, (("Retry-After", "0.1"), ("Content-Type", "application/json")), 400)
            for _ in range(400):
                exchange.send(b" ")
                exchange.pause(0.05)

    with HostileServer([Drops()]) as server:
        [result] = wire.call("POST", server.url, flexmw.Retry(), json={})
        assert (result.status_code, len(server.requests)) == (200, 2)


@wires
def test_over_http2_the_body_of_a_429_is_not_read(wire: Wire) -> None:
    clock = FakeClock()
    with HostileServer([Response(429, body=QUOTA)], tls=True, http2=True) as server:
        options = {"http2": True, "verify": server.client_context()}
        [result] = wire.call("POST", server.url, flexmw.Retry(clock=clock), clock=clock, client=options, json={})
    assert result.status_code == 200


# --- the user's own function -----------------------------------------------------------------------------------------


def github(response: Any, body: bytes) -> str | None:
    if response.status_code == 403 and response.headers.get("x-ratelimit-remaining") == "0":
        return "refused"
    return "refused" if response.status_code == 403 and b"secondary rate limit" in body else None


@wires
@pytest.mark.parametrize(
    "refusal",
    [
        Response(403, headers=(("x-ratelimit-remaining", "0"), ("Retry-After", "2"))),
        Response(403, headers=(("Retry-After", "2"),), body={"message": "You have exceeded a secondary rate limit"}),
    ],
    ids=["remaining", "body"],
)
def test_a_function_can_call_a_status_a_refusal(wire: Wire, refusal: Response) -> None:
    clock = FakeClock()
    with HostileServer([refusal, Response(403)]) as server:
        result = call(wire, "POST", server.url, clock, classify=github, random=lambda: 0.0)
        assert (result.status_code, len(server.requests), clock.slept) == (403, 2, [2.0])
    assert outcome(result).outcome == "answered"


@wires
@pytest.mark.parametrize(
    ("word", "method", "sent", "said"),
    [
        ("refused", "POST", 2, "answered"),
        ("ambiguous", "POST", 1, "ambiguous"),
        ("ambiguous", "GET", 2, "answered"),
        ("answered", "GET", 1, "answered"),
        (None, "GET", 2, "answered"),
    ],
)
def test_each_word_of_a_function_is_a_row_of_the_table(
    wire: Wire, word: str, method: str, sent: int, said: str
) -> None:
    clock = FakeClock()
    with HostileServer([Response(500)]) as server:
        result = call(
            wire,
            method,
            server.url,
            clock,
            classify=lambda response, body: word if response.status_code == 500 else None,
        )
        assert (len(server.requests), outcome(result).outcome) == (sent, said)


@wires
def test_a_function_sees_the_decoded_beginning_of_an_error_body_and_the_caller_still_gets_all_of_it(wire: Wire) -> None:
    clock, seen, body = FakeClock(), [], json.dumps({"why": "x" * 200_000}).encode()
    headers = (("Content-Type", "application/json"), ("Content-Encoding", "gzip"))
    with HostileServer(
        [Response(404, headers=headers, body=gzip.compress(body)), Response(404, body=b"y" * 300_000)]
    ) as server:

        def classify(response: Any, start: bytes) -> None:
            seen.append((response.status_code, start))

        policy = flexmw.Retry(clock=clock, classify=classify)
        first, second = wire.call("GET", server.url, policy, clock=clock, times=2)
    assert seen == [(404, body[:65536]), (404, b"y" * 65536)]
    assert (first.content, second.content) == (body, b"y" * 300_000)


@wires
def test_a_200_that_holds_an_error_can_be_named(wire: Wire) -> None:
    def classify(response: Any, body: bytes) -> str | None:
        return "refused" if b'"rate limited"' in body else None

    clock = FakeClock()
    with HostileServer([Response(200, body={"errors": "rate limited"}, executes=False)]) as server:
        result = call(wire, "POST", server.url, clock, classify=classify)
        assert (result.status_code, len(server.requests), server.executions) == (200, 2, 1)


def test_a_good_stream_is_never_read_for_a_function() -> None:
    stream = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=b"data: x\n\n")
    seen: list[bytes] = []
    play(
        flexmw.Retry(classify=lambda response, body: seen.append(body)), [stream], httpx.Request("POST", "http://test")
    )
    assert seen == [b""]


def test_another_word_is_refused() -> None:
    policy = flexmw.Retry(classify=lambda response, body: "retry")
    played = play(policy, [500], httpx.Request("GET", "http://test"))
    assert "expected a function that returns 'refused', 'ambiguous', 'answered' or None" in str(played.error)


def test_x_should_retry_false_stops_a_function_too() -> None:
    policy = flexmw.Retry(classify=lambda response, body: "refused")
    refusal = httpx.Response(403, headers={"x-should-retry": "false"})
    assert play(policy, [refusal, 200], httpx.Request("GET", "http://test")).count(flexmw.Send) == 1


class BreaksItsBody(Fault):
    """A response whose body of JSON ends before its length."""

    def __init__(self, status: int) -> None:
        self.status = status

    def run(self, exchange: Exchange) -> None:
        exchange.start(self.status, (("Retry-After", "1"), ("Content-Type", "application/json")), 100)
        exchange.send(b"{")
        exchange.close("fin")


@wires
@pytest.mark.parametrize(("method", "status"), [("GET", 500), ("GET", 200), ("POST", 503), ("POST", 429)])
def test_a_body_that_breaks_while_it_is_classified_leaves_the_decision_to_the_head(
    wire: Wire, method: str, status: int
) -> None:
    clock, seen = FakeClock(), list[bytes]()

    def classify(response: Any, body: bytes) -> None:
        seen.append(body)

    with HostileServer([BreaksItsBody(status)]) as server:
        result = call(wire, method, server.url, clock, classify=classify)
        assert (result.status_code, outcome(result).attempts, len(server.requests)) == (200, 2, 2)
    assert len(seen) == (1 if status == 200 else 2)


@wires
@pytest.mark.parametrize("status", [200, 404, 500])
def test_a_post_whose_body_breaks_while_it_is_classified_has_an_outcome(wire: Wire, status: int) -> None:
    clock = FakeClock()
    with HostileServer([BreaksItsBody(status)]) as server:
        error = call(wire, "POST", server.url, clock, classify=lambda response, body: None)
        assert (outcome(error).outcome, outcome(error).reason) == ("ambiguous", "unsafe_method")
        assert len(server.requests) == 1


@wires
def test_a_transport_error_of_the_users_own_function_passes_at_once(wire: Wire) -> None:
    error = wire.library.ReadError("of the function's own call")

    def classify(response: Any, body: bytes) -> None:
        raise error

    clock = FakeClock()
    with HostileServer(["500"]) as server:
        assert call(wire, "GET", server.url, clock, classify=classify) is error
        assert len(server.requests) == 1
    assert not hasattr(error, "flexmw")


@wires
def test_a_body_in_drops_is_classified_by_its_beginning(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flexmw.retry.reading.CLASSIFY_SECONDS", 0.2)
    seen: list[bytes] = []

    class Drops(Fault):
        def run(self, exchange: Exchange) -> None:
            exchange.start(500, (("Content-Type", "application/json"),), 2000)
            for _ in range(2000):
                exchange.send(b" ")
                exchange.pause(0.02)

    def classify(response: Any, body: bytes) -> None:
        seen.append(body)

    with HostileServer([Drops()]) as server:
        [result] = wire.call("GET", server.url, flexmw.Retry(classify=classify, random=lambda: 0.0))
        assert (result.status_code, len(server.requests)) == (200, 2)
    assert 0 < len(seen[0]) < 2000


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
@pytest.mark.parametrize("wire", [wire for wire in WIRES if wire.backend == "trio"], ids=str)
@pytest.mark.parametrize("deadline", [None, 20.0])
def test_a_response_that_is_closed_after_it_was_classified_leaves_nothing_to_the_garbage_collector(
    wire: Wire, http2: bool, deadline: float | None
) -> None:
    policy = flexmw.Retry(classify=lambda response, body: None, deadline=deadline)

    async def run(url: str, **options: Any) -> None:
        async with flexmw.wrap_client(wire.library.AsyncClient(trust_env=False, **options), policy) as client:
            async with client.stream("GET", url) as response:
                assert response.status_code == 404
            del response  # trio reports generators that were left open, and the test fails
            assert (await client.get(url)).status_code == 404

    with HostileServer(then=Response(404, body=b"y" * 300_000), tls=http2, http2=http2) as server:
        options = {"http2": True, "verify": server.client_context()} if http2 else {}
        anyio.run(lambda: run(server.url, **options), backend="trio")
