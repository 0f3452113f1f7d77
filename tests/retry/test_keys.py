"""Idempotency keys: what is learned, until when it holds, and the repetitions of SDKs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import httpx2
import openai
import pytest

import flexmw
from flexmw.testing import FakeClock, HostileServer, play
from flexmw.testing.hostile import Response
from tests.clients.wires import WIRES, Wire
from tests.retry.outcomes import outcome
from tests.waiting import LONGEST_WAIT

wires = pytest.mark.parametrize("wire", WIRES, ids=str)
KEYED = {"idempotency-key": "k"}
TTL = {"idempotency-key-ttl": "60"}
MESSAGES: Any = [{"role": "user", "content": "hello"}]


def post(**headers: str) -> Any:
    return httpx.Request("POST", "http://api.test/jobs", headers={**KEYED, **headers}, json={})


def answer(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers=headers, json={})


def learned(clock: FakeClock, **options: Any) -> flexmw.Retry:
    policy = flexmw.Retry(clock=clock, jitter=0.0, random=lambda: 0.0, **options)
    play(policy, [answer(200, **TTL)], post())
    return policy


LOST = httpx.ReadError("lost")


@pytest.mark.parametrize("status", [200, 404, 500, 429])
def test_learned_trust_ends_with_the_first_response_that_lacks_the_header(status: int) -> None:
    policy = learned(FakeClock(), attempts=1)
    play(policy, [answer(status)], post())
    played = play(policy, [LOST, answer(200, **TTL)], post())
    assert played.count(flexmw.Send) == 1
    assert outcome(played.error).outcome == "ambiguous"


@pytest.mark.parametrize("last", [answer(500), answer(503, **{"retry-after": "1"}), answer(429)], ids=str)
def test_a_response_that_lacks_the_header_is_never_a_licence(last: httpx.Response) -> None:
    played = play(learned(FakeClock()), [LOST, last, answer(200, **TTL)], post())
    assert played.count(flexmw.Send) == 2
    assert outcome(played.response).outcome == "ambiguous"


def test_a_response_of_a_server_that_may_have_run_the_call_twice_is_not_called_answered() -> None:
    played = play(learned(FakeClock()), [LOST, answer(200)], post())
    assert played.response.status_code == 200
    assert (outcome(played.response).outcome, outcome(played.response).reason) == ("ambiguous", "key_not_honoured")
    declared = flexmw.Retry(key_origins=("http://api.test",))
    assert outcome(play(declared, [LOST, answer(200)], post()).response).outcome == "answered"


def test_an_attempt_that_was_never_sent_does_not_undo_one_that_may_have_run() -> None:
    refused = httpx.ConnectError("no")
    refused.__cause__ = ConnectionRefusedError()
    played = play(learned(FakeClock(), attempts=2), [LOST, refused], post())
    assert (outcome(played.error).outcome, outcome(played.error).attempts) == ("ambiguous", 2)


def test_no_attempt_is_later_than_the_first_send_and_the_learned_ttl() -> None:
    clock = FakeClock()
    policy = flexmw.Retry(clock=clock, jitter=0.0, random=lambda: 0.0)
    play(policy, [answer(200, **{"idempotency-key-ttl": "2"})], post())
    busy = answer(503, **{"retry-after": "3", "idempotency-key-ttl": "2"})
    played = play(policy, [LOST, busy, answer(200)], post())
    assert played.count(flexmw.Send) == 2
    assert (outcome(played.response).outcome, outcome(played.response).reason) == ("ambiguous", "deadline")


def test_a_head_that_would_go_out_after_the_ttl_stays_here() -> None:
    clock = FakeClock()
    policy = learned(clock)
    flow = policy.flow(post())
    next(flow)
    flow.throw(LOST)  # scheduled
    next(flow)
    effect: Any = flow.send(None)
    clock.advance(61.0)
    with pytest.raises(httpx.PoolTimeout) as late:
        effect.observe("http11.send_request_headers.started", {})
    flow.throw(late.value)
    with pytest.raises(httpx.PoolTimeout) as caught:
        next(flow)
    assert outcome(caught.value).outcome == "ambiguous"


@wires
@pytest.mark.parametrize(("attempts", "lost"), [(3, 3), (1, 1), (3, 4)])
@pytest.mark.parametrize("trust", ["declared", "learned"])
def test_a_repetition_of_an_sdk_goes_on_under_the_key_of_its_call(
    wire: Wire, trust: str, attempts: int, lost: int
) -> None:
    clock = FakeClock()
    warm = ["ok"] if trust == "learned" else []
    ttl = 600 if trust == "learned" else None
    with HostileServer([*warm, *["fin"] * lost], dedup=True, key_ttl=ttl) as server:
        origins = (server.url,) if trust == "declared" else ()
        policy = flexmw.Retry(clock=clock, auto_key=True, attempts=attempts, key_origins=origins)
        counts = iter(["0"] * len(warm) + ["0", "1", "2"])
        results = wire.call(
            "POST",
            server.url,
            policy,
            clock=clock,
            times=len(warm) + 3,
            json=lambda: {"n": 1},
            headers=lambda: {"x-stainless-retry-count": next(counts)},
        )
        sent = {request.header("idempotency-key") for request in server.requests[len(warm) :]}
    assert any(not isinstance(result, Exception) for result in results[len(warm) :])
    assert server.executions == len(warm) + 1
    assert len(sent) == 1


def test_an_sdk_over_auto_key_executes_a_call_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.005)
    for lost, attempts in ((3, 3), (1, 1), (4, 3)):
        with HostileServer(["ok", *["fin"] * lost], dedup=True, key_ttl=600) as server:
            policy = flexmw.Retry(auto_key=True, attempts=attempts, random=lambda: 0.0)
            http = flexmw.wrap_client(httpx2.Client(timeout=LONGEST_WAIT, trust_env=False), policy)
            with openai.OpenAI(api_key="k", base_url=server.url, http_client=http) as sdk:
                sdk.post("/x", body={"warm": 1}, cast_to=object)
                sdk.post("/x", body={}, cast_to=object)
            assert server.executions == 2


def test_two_equal_calls_that_failed_keep_a_key_each() -> None:
    policy = flexmw.Retry(auto_key=True, attempts=1, key_origins=("http://api.test",))

    def keys(*counts: str) -> Iterator[Any]:
        for count in counts:
            request = httpx.Request("POST", "http://api.test/jobs", headers={"x-stainless-retry-count": count}, json={})
            played = play(policy, [LOST], request)
            yield next(effect for effect in played.effects if isinstance(effect, flexmw.Send)).request.headers[
                "idempotency-key"
            ]

    first, second, again, once_more = keys("0", "0", "1", "1")
    assert first != second
    assert [again, once_more] == [first, second]


def test_a_repetition_whose_call_is_not_known_is_not_sent() -> None:
    policy = flexmw.Retry(auto_key=True, key_origins=("http://api.test",))
    request = httpx.Request("POST", "http://api.test/jobs", headers={"x-stainless-retry-count": "1"}, json={})
    played = play(policy, [200], request)
    assert played.count(flexmw.Send) == 0
    assert outcome(played.error).reason == "given_back_before"


def test_another_call_in_the_repetition_of_an_sdk_is_sent_under_a_key_of_its_own() -> None:
    policy = flexmw.Retry(auto_key=True, attempts=1, key_origins=("http://api.test",))
    speakeasy: dict[str, Any] = {"__name__": "acme.utils.retries"}
    exec("def retry_with_backoff(send, count):\n    retries = count\n    return send()", speakeasy)

    def key(path: str, count: int) -> str:
        request = httpx.Request("POST", f"http://api.test/{path}", json={})
        played = speakeasy["retry_with_backoff"](lambda: play(policy, [LOST], request), count)
        (sent,) = (effect for effect in played.effects if isinstance(effect, flexmw.Send))
        own: str = sent.request.headers["idempotency-key"]
        return own

    first, token, again = key("jobs", 0), key("token", 1), key("jobs", 1)
    assert (first == again, first == token) == (True, False)


def test_a_repetition_of_a_call_that_was_refused_is_sent() -> None:
    policy = flexmw.Retry(auto_key=True, attempts=1)
    for count, status in (("0", 429), ("1", 200)):
        request = httpx.Request("POST", "http://api.test/jobs", headers={"x-stainless-retry-count": count}, json={})
        assert play(policy, [status], request).response.status_code == status


def test_a_repetition_after_trust_has_ended_is_the_same_error() -> None:
    clock = FakeClock()
    policy = learned(clock, auto_key=True, attempts=1)
    plain = {"x-stainless-retry-count": "0"}
    first = play(policy, [LOST], httpx.Request("POST", "http://api.test/jobs", headers=plain, json={}))
    assert outcome(first.error).key is not None
    clock.advance(61.0)
    again = httpx.Request("POST", "http://api.test/jobs", headers={"x-stainless-retry-count": "1"}, json={})
    played = play(policy, [200], again)
    assert played.count(flexmw.Send) == 0
    assert (type(played.error), outcome(played.error).reason) == (httpx.ReadError, "given_back_before")


@wires
def test_a_server_whose_store_is_away_gets_a_keyed_post_once(wire: Wire) -> None:
    clock = FakeClock()
    with HostileServer(["ok", Response(500), "ok"], key_ttl=60) as server:
        policy = flexmw.Retry(clock=clock)
        wire.call("POST", server.url, policy, clock=clock, headers=KEYED)
        assert policy._memory.trusted
    with HostileServer([Response(500), "ok"]) as away:
        policy._memory.trust(f"POST {away.url}/", ttl=60.0, now=clock.monotonic())
        [result] = wire.call("POST", away.url, policy, clock=clock, headers=KEYED)
        assert (result.status_code, away.executions) == (500, 1)
    assert outcome(result).outcome == "ambiguous"
