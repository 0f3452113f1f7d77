from __future__ import annotations

import logging
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from flexmw.errors import ConfigError
from flexmw.kit.exchange import Exchange
from flexmw.ratelimit import Caller, RateLimit, settle
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.testing import FakeClock
from tests.ratelimit.calls import Answer, answering, ask, call, scope_of

pytestmark = pytest.mark.anyio
NAMES = list(ALGORITHMS)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(now=1_800_000_000.25)


def limited(*rates: Any, clock: FakeClock, app: ASGIApp | None = None, **options: Any) -> ASGIApp:
    return RateLimit(*rates, clock=clock, **options).asgi(app or answering())


@pytest.mark.parametrize("strategy", NAMES)
async def test_a_refusal_is_the_contract_s_response_with_headers_that_agree(strategy: str, clock: FakeClock) -> None:
    app = limited("2/minute", clock=clock, strategy=strategy)
    for remaining in (1, 0):
        answer = await call(app)
        assert (answer.status, answer.quota[:2]) == (200, (2, remaining))
        assert answer.quota[2] > clock.now()
        assert "retry-after" not in answer
    refused = await call(app)
    assert refused.status == 429
    seconds, milliseconds = int(refused["retry-after"]), int(refused["retry-after-ms"])
    assert 1 <= seconds == -(-milliseconds // 1000)
    assert refused.quota[0:2] == (2, 0)
    assert refused.quota[2] == -(-int((clock.now() + milliseconds / 1000) * 1000) // 1000)
    assert refused.error["type"] == "rate_limit_error"
    assert refused.error["code"] == "rate_limit_exceeded"
    assert refused.error["message"] == f"Rate limit exceeded. Retry after {seconds} seconds."
    assert refused["content-type"] == "application/json"


@pytest.mark.parametrize("strategy", NAMES)
@pytest.mark.parametrize("header", ["retry-after", "retry-after-ms", "x-ratelimit-reset-requests"])
async def test_whoever_obeys_any_header_is_not_refused_again(strategy: str, header: str, clock: FakeClock) -> None:
    for phase in range(50):
        clock.advance(phase * 0.137)
        app = limited("3/2 second", clock=clock, strategy=strategy)
        answer = await call(app)
        while answer.status == 200:
            clock.advance(0.05)
            answer = await call(app)
        value = float(answer[header])
        clock.advance({"retry-after": value, "retry-after-ms": value / 1000}.get(header, value - clock.now()))
        assert (await call(app)).status == 200, phase


async def test_refused_requests_never_reach_the_app(clock: FakeClock) -> None:
    inner: Any = answering()
    app = limited("2/minute", clock=clock, app=inner)
    for _ in range(5):
        await call(app)
    assert inner.calls == 2


async def test_callers_are_told_apart_by_token_else_by_address(clock: FakeClock) -> None:
    app = limited("1/minute", clock=clock)
    assert (await call(app, "sk-1")).status == 200
    assert (await call(app, "sk-2")).status == 200
    assert (await call(app, None)).status == 200
    assert (await call(app, None, client=("198.51.100.1", 1))).status == 200
    assert (await call(app, None, client=("198.51.100.1", 2))).status == 429
    assert (await call(app, "sk-1", client=("198.51.100.9", 1))).status == 429


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("header:x-api-key", {"headers": [("x-api-key", "a")]}, {"headers": [("x-api-key", "b")]}),
        ("state:tenant", {"state": {"tenant": "a"}}, {"state": {"tenant": "b"}}),
        ("user", {"user": "a"}, {"user": "b"}),
        ("address", {"client": ("192.0.2.1", 1)}, {"client": ("192.0.2.2", 1)}),
        (lambda scope: scope["path"], {"path": "/a"}, {"path": "/b"}),
    ],
    ids=["header", "state", "user", "address", "function"],
)
async def test_a_key_says_who_the_caller_is(key: Any, one: Any, other: Any, clock: FakeClock) -> None:
    app = limited("1/minute", clock=clock, key=key)
    statuses = [(await call(app, "sk-1", **who)).status for who in (one, other, one, other)]
    assert statuses == [200, 200, 429, 429]


async def test_an_async_key_and_an_authenticated_user_object_are_understood(clock: FakeClock) -> None:
    class User:
        is_authenticated = True

        @property
        def identity(self) -> str:
            raise NotImplementedError

        username = "ada"

    async def tenant(scope: Scope) -> str:
        return "one for all"

    app = limited("1/minute", clock=clock, key="user")
    assert [(await call(app, None, user=User())).status for _ in range(2)] == [200, 429]
    User.is_authenticated = False
    assert (await call(app, None, user=User())).status == 200
    app = limited("1/minute", clock=clock, key=tenant)
    assert [(await call(app, key)).status for key in ("sk-1", "sk-2")] == [200, 429]


async def test_headers_are_on_every_response_of_the_app_and_of_other_components(
    clock: FakeClock,
) -> None:
    answer = await call(limited("5/minute", clock=clock, app=answering(404, (b"x-own", b"1"))))
    assert (answer.status, answer["x-own"], answer.quota[:2]) == (404, "1", (5, 4))

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError

    scope = scope_of()
    with pytest.raises(RuntimeError):
        await ask(limited("5/minute", clock=clock, app=broken), scope)
    names = [name for name, _ in Exchange.of(scope).headers]
    assert b"x-ratelimit-remaining-requests" in names


async def test_a_header_that_the_app_sets_itself_is_the_only_one(clock: FakeClock) -> None:
    app = limited("5/minute", clock=clock, app=answering(200, (b"X-RateLimit-Limit-Requests", b"77")))
    answer = await call(app)
    assert [value for name, value in answer.headers if name.lower() == "x-ratelimit-limit-requests"] == ["77"]


@pytest.mark.parametrize(
    ("dialects", "present", "reset"),
    [
        (("unix",), "x-ratelimit-reset-requests", "1800000061"),
        (("seed",), "x-ratelimit-reset-requests", "1800000061"),
        (("openai",), "x-ratelimit-reset-requests", "1m0s"),
        (("ietf",), "ratelimit", '"5/minute";r=4;t=60'),
        (("openai", "ietf"), "ratelimit-policy", '"5/minute";q=5;w=60'),
    ],
)
async def test_headers_come_in_the_styles_of_the_option(
    dialects: Any, present: str, reset: str, clock: FakeClock
) -> None:
    assert (await call(limited("5/minute", clock=clock, headers=dialects)))[present] == reset


async def test_of_two_limiters_around_each_other_the_tighter_one_is_reported(clock: FakeClock) -> None:
    for outer, inner in (("10/minute", "3/hour"), ("3/hour", "10/minute")):
        app = limited(outer, clock=clock, app=limited(inner, clock=clock))
        assert (await call(app)).quota[:2] == (3, 2)


async def test_a_limiter_of_slots_does_not_hide_the_headers_of_a_limiter_inside_it(clock: FakeClock) -> None:
    app = limited(app=limited("60/minute", clock=clock), concurrency=2, clock=clock)
    answer = await call(app)
    assert answer.quota[:2] == (60, 59)


async def test_two_limiters_with_two_units_both_send_their_headers(clock: FakeClock) -> None:
    app = limited("2/minute", app=limited(tokens="100/minute", token_cost=1, clock=clock), clock=clock)
    answer = await call(app)
    assert answer.quota[:2] == (2, 1)
    assert answer["x-ratelimit-remaining-tokens"] == "99"


async def test_shadow_refuses_nothing_and_reports_the_decision(clock: FakeClock) -> None:
    app = limited("1/minute", clock=clock, shadow=True)
    scope, told = scope_of(), []
    Exchange.of(scope).subscribe(lambda event, details: told.append((event, details["result"], details["shadow"])))
    assert (await call(app)).status == 200
    answer = await ask(app, scope)
    assert (answer.status, answer.quota[:2]) == (200, (1, 0))
    assert "retry-after" not in answer
    assert told == [("flexmw.rate_limiting.decided", "rejected", True)]


@pytest.mark.parametrize(
    ("exempt", "free", "counted"),
    [
        ("/health", {"path": "/health"}, {"path": "/health/deep"}),
        (["/static/*", "OPTIONS *"], {"path": "/x", "method": "OPTIONS"}, {"path": "/static"}),
        ("GET /metrics", {"path": "/metrics"}, {"path": "/metrics", "method": "POST"}),
        (lambda scope: scope["path"] == "/me", {"path": "/me"}, {"path": "/you"}),
    ],
    ids=["path", "list", "method", "function"],
)
async def test_an_exempt_request_is_not_counted_and_gets_no_headers(
    exempt: Any, free: Any, counted: Any, clock: FakeClock
) -> None:
    app = limited("1/minute", clock=clock, exempt=exempt)
    for _ in range(3):
        scope = scope_of(**free)
        answer = await ask(app, scope)
        assert (answer.status, "x-ratelimit-limit-requests" in answer) == (200, False)
        assert Exchange.of(scope).facts == {"flexmw.rate_limiting.result": "bypassed"}
    assert [(await call(app, **counted)).status for _ in range(2)] == [200, 429]


async def test_a_table_gives_each_route_its_own_rates_and_buckets(clock: FakeClock) -> None:
    app = limited("5/minute", clock=clock, limit={"/v1/models": "2/minute", "POST /v1/*": ["1/minute", "9/day"]})
    limits = [(await call(app, **at)).quota[0] for at in ({"path": "/v1/models"}, {"path": "/v1/x"}, {"path": "/"})]
    assert limits == [2, 5, 5]
    assert [(await call(app, path="/v1/x", method="POST")).status for _ in range(2)] == [200, 429]
    assert (await call(app, path="/v1/models")).status == 200


async def test_a_table_without_a_default_leaves_the_rest_unlimited(clock: FakeClock) -> None:
    app = limited(clock=clock, limit={"/a": "1/minute"})
    assert [(await call(app, path="/b")).status for _ in range(3)] == [200] * 3
    assert [(await call(app, path="/a")).status for _ in range(2)] == [200, 429]


@pytest.mark.parametrize("strategy", NAMES)
async def test_a_change_of_tier_keeps_the_usage(strategy: str, clock: FakeClock) -> None:
    tiers = {"sk-1": "4/minute"}
    app = limited(clock=clock, strategy=strategy, limit=lambda caller: tiers[caller.value])
    for _ in range(4):
        assert (await call(app)).status == 200
    assert (await call(app)).status == 429
    tiers["sk-1"] = "8/minute"
    answer = await call(app)
    # A bucket's level is a share of its limit; a counter's is a number.
    assert (answer.status, answer.quota[:2]) == ((429, (8, 0)) if strategy == "gcra" else (200, (8, 3)))
    tiers["sk-1"] = "2/minute"
    assert (await call(app)).status == 429


async def test_an_async_tier_is_asked_once_in_its_lifetime_and_may_look_at_the_scope(clock: FakeClock) -> None:
    asked: list[str] = []

    async def tier(caller: Caller, scope: Scope) -> str | None:
        asked.append(scope["path"])
        return None if caller.kind == "address" else "7/minute"

    app = limited("3/minute", clock=clock, limit=tier)
    assert [(await call(app)).quota[0] for _ in range(3)] == [7, 7, 7]
    assert (await call(app, None)).quota[0] == 3
    assert asked == ["/", "/"]
    clock.advance(11)
    await call(app)
    assert len(asked) == 3


async def test_a_limit_function_that_returns_no_rate_raises_a_config_error(clock: FakeClock) -> None:
    with pytest.raises(ConfigError, match=r"RateLimit\(limit=\.\.\.\) = 'lots'"):
        await call(limited(clock=clock, limit=lambda caller: "lots"))


async def test_an_estimate_is_settled_when_the_response_is_complete(clock: FakeClock) -> None:
    spent = {"real": 0}

    async def model(scope: Scope, receive: Receive, send: Send) -> None:
        settle(spent["real"])
        await answering()(scope, receive, send)

    app = limited("100/minute", clock=clock, app=model, cost=lambda scope: 40)
    spent["real"] = 10
    assert (await call(app)).quota[1] == 60
    spent["real"] = 90
    assert (await call(app)).quota[1] == 50
    refused = await call(app)
    assert (refused.status, refused.quota[1]) == (429, 0)


async def test_what_cannot_be_settled_is_an_error_that_says_why(clock: FakeClock) -> None:
    with pytest.raises(ConfigError, match="reserves an estimate"):
        settle(3)
    with pytest.raises(ConfigError, match="at least 0"):
        settle(-1)
    with pytest.raises(ConfigError, match="the function to return"):
        await call(limited("5/minute", clock=clock, cost=lambda scope: "many"))


async def test_explaining_consumes_nothing_and_says_what_would_be_decided(clock: FakeClock) -> None:
    app: Any = limited("2/minute", clock=clock, exempt="/health")
    for _ in range(5):
        seen = await app.explain(scope_of())
        assert (seen.allowed, seen.remaining, seen.policy, seen.degraded) == (True, 2, "2/minute", False)
    await call(app)
    await call(app)
    seen = await app.explain(scope_of())
    assert (seen.allowed, seen.remaining) == (False, 0)
    assert seen.retry_after > 0
    assert await app.explain(scope_of(path="/health")) is None


async def test_a_websocket_s_connection_counts_and_is_denied_in_the_way_the_server_can(clock: FakeClock) -> None:
    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})

    app = limited("1/minute", clock=clock, app=echo)
    socket = {**scope_of(), "type": "websocket"}
    accepted = await ask(app, dict(socket))
    assert accepted.messages[0]["type"] == "websocket.accept"
    assert accepted["x-ratelimit-remaining-requests"] == "0"
    denied = await ask(app, {**socket, "extensions": {"websocket.http.response": {}}})
    assert (denied.status, denied.error["code"]) == (429, "rate_limit_exceeded")
    closed = await ask(app, dict(socket))
    assert closed.messages == [{"type": "websocket.close", "code": 1008, "reason": "rate_limit_exceeded"}]


async def test_lifespan_passes_through(clock: FakeClock) -> None:
    inner: Any = answering()
    app = limited("1/minute", clock=clock, app=inner)
    for kind in ("lifespan", "of another kind"):
        await ask(app, {"type": kind})
    assert inner.calls == 2


async def test_facts_and_events_say_what_telemetry_wants_and_never_the_key(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    app, seen, answers = limited("1/minute", clock=clock), [], []
    for _ in range(2):
        scope = scope_of("sk-live-canary")
        Exchange.of(scope).subscribe(lambda event, details: seen.append((event, dict(details))))
        answers.append(await ask(app, scope))
        facts = Exchange.of(scope).facts
    assert facts == {
        "flexmw.rate_limiting.result": "rejected",
        "flexmw.rate_limiting.policy": "1/minute",
        "flexmw.rate_limiting.limit": 1,
        "flexmw.rate_limiting.remaining": 0,
        "flexmw.rate_limiting.retry_after": pytest.approx(60.0, abs=1e-5),
    }
    decided = [details for event, details in seen if event == "flexmw.rate_limiting.decided"]
    assert [details["result"] for details in decided] == ["acquired", "rejected"]
    assert all(details["duration"] >= 0 and details["policy"] == "1/minute" for details in decided)
    settled = [details["outcome"] for event, details in seen if event == "flexmw.error.decided"]
    assert [(each.status, each.code, each.source) for each in settled] == [
        (429, "rate_limit_exceeded", "rate_limiting")
    ]
    assert "canary" not in repr((seen, facts, answers, app, caplog.text))


def test_responses_hold_no_header_twice() -> None:
    answer = Answer(headers=[("a", "1"), ("a", "2")])
    with pytest.raises(AssertionError):
        answer["a"]
