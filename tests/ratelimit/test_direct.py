"""The shortest way through the limiter decides and reports as the general way does."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexmw import InvalidAPIKey, RateLimit
from flexmw.kit.exchange import Exchange
from flexmw.kit.expiring import Shard
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.direct import DirectLimiter
from flexmw.ratelimit.local import LocalRateLimitMiddleware, admit_none
from flexmw.ratelimit.recent_keys import Place, RecentKeys
from flexmw.testing import FakeClock

CALLERS: list[list[tuple[bytes, bytes]]] = [
    [],
    [(b"authorization", b"Bearer a")],
    [(b"host", b"a"), (b"authorization", b"bearer a")],
    [(b"authorization", b"Bearer b")],
    [(b"authorization", b"Basic b")],
    [(b"authorization", b"Bearer refused")],
]

ResultT = TypeVar("ResultT")
REQUESTS = st.lists(
    st.tuples(st.sampled_from(CALLERS), st.integers(0, 40_000), st.sampled_from(["GET", "POST", "OPTIONS"])),
    max_size=30,
)
"""The headers of a request, the milliseconds since the one before, and the method."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    status = 401 if scope["headers"] and b"refused" in scope["headers"][-1][1] else 200
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


def limited(clock: FakeClock, *, direct: bool, **options: Any) -> LocalRateLimitMiddleware:
    limiter = RateLimit("5/minute", clock=clock, new_keys_per_address=3, **options).asgi(app)
    assert isinstance(limiter, LocalRateLimitMiddleware)
    if not direct:
        limiter._parts = replace(limiter._parts, admit=admit_none)
    return limiter


async def response(limiter: LocalRateLimitMiddleware, headers: Any, method: str) -> Any:
    scope: dict[str, Any] = {"type": "http", "method": method, "path": "/", "client": ("192.0.2.7", 1)}
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope["headers"] = [*headers] if type(headers) is list else headers
    await limiter(scope, None, send)  # type: ignore[arg-type]
    return sent, Exchange.of(scope).facts


def at_once(coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
    """The result of a coroutine that waits for nothing."""
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    result: ResultT = stop.value.value
    return result


@pytest.mark.parametrize("strategy", ALGORITHMS)
@settings(max_examples=25)
@given(requests=REQUESTS, cost=st.integers(1, 3), exempt=st.sampled_from([None, "POST /"]))
def test_both_ways_give_each_request_the_same_response(
    strategy: str, cost: int, exempt: str | None, requests: list[tuple[list[tuple[bytes, bytes]], int, str]]
) -> None:
    clock = FakeClock()
    one, other = (
        limited(clock, direct=direct, strategy=strategy, cost=cost, exempt=exempt) for direct in (True, False)
    )

    for headers, passed_ms, method in requests:
        clock.advance(passed_ms / 1000)
        assert at_once(response(one, headers, method)) == at_once(response(other, headers, method))


@pytest.mark.anyio
async def test_a_known_caller_is_admitted_the_shortest_way_and_a_refusal_takes_the_general_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admitted: list[bool] = []
    admit = DirectLimiter.admit

    def observed(*arguments: Any) -> Place | None:
        place = admit(*arguments)
        admitted.append(place is not None)
        return place

    monkeypatch.setattr(DirectLimiter, "admit", observed)
    limiter = limited(FakeClock(), direct=True)
    statuses = [(await response(limiter, CALLERS[1], "GET"))[0][0]["status"] for _ in range(6)]
    assert statuses == [200] * 5 + [429]
    # The first request proves the key, and the second remembers it.
    assert admitted == [False, False, True, True, True, False]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "headers_of",
    [
        iter,
        tuple,
        lambda headers: [(bytearray(name), bytearray(value)) for name, value in headers],
        lambda headers: [(memoryview(name), memoryview(value)) for name, value in headers],
    ],
    ids=["an iterator", "a tuple", "bytearrays", "views"],
)
async def test_headers_of_other_types_are_kept_for_the_app_and_count_for_the_same_caller(headers_of: Any) -> None:
    seen: list[Any] = []

    async def keeping(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["headers"])
        await app(scope, receive, send)

    limiter = RateLimit("9/minute", clock=FakeClock()).asgi(keeping)
    assert isinstance(limiter, LocalRateLimitMiddleware)
    for _ in range(3):
        await response(limiter, CALLERS[2], "GET")
    (start, _), facts = await response(limiter, headers_of(CALLERS[2]), "GET")
    assert dict(start["headers"])[b"x-ratelimit-remaining-requests"] == b"5"
    assert facts["flexmw.rate_limiting.remaining"] == 5
    assert seen[-1] == CALLERS[2]
    assert {type(name) for name, _ in seen[-1]} == {bytes}


@pytest.mark.anyio
async def test_an_app_that_raises_for_a_known_caller_is_a_verdict_on_the_key() -> None:
    accepted = True

    async def changing(scope: Any, receive: Any, send: Any) -> None:
        if not accepted:
            raise InvalidAPIKey
        await app(scope, receive, send)

    limiter = RateLimit("9/minute", clock=FakeClock()).asgi(changing)
    assert isinstance(limiter, LocalRateLimitMiddleware)
    for _ in range(3):
        await response(limiter, CALLERS[1], "GET")
    accepted = False
    with pytest.raises(InvalidAPIKey):
        await response(limiter, CALLERS[1], "GET")
    assert limiter.shared.identifier.guard.recent.places == {}


def five_a_minute(caller: object) -> str:
    return "5/minute"


@pytest.mark.parametrize(
    "options",
    [{"headers": ("ietf",)}, {"key": "header:x-api-key"}, {"limit": five_a_minute}, {"storage": "other"}],
    ids=["other headers", "another key", "a function", "several rates"],
)
def test_other_limiters_have_the_general_way_alone(options: dict[str, Any]) -> None:
    rates = ("5/minute", "9/hour") if options.pop("storage", None) else ("5/minute",)
    limiter = RateLimit(*rates, **options).asgi(app)
    assert isinstance(limiter, LocalRateLimitMiddleware)
    assert limiter._parts.admit is admit_none


@pytest.mark.anyio
@pytest.mark.parametrize("strategy", ALGORITHMS)
@pytest.mark.parametrize("caller", CALLERS[:2], ids=["an address", "a key"])
async def test_the_reset_follows_a_step_of_the_wall_clock_within_a_second(
    strategy: str, caller: list[tuple[bytes, bytes]]
) -> None:
    clock = FakeClock()
    one, other = (limited(clock, direct=direct, strategy=strategy) for direct in (True, False))

    async def resets() -> list[bytes]:
        responses = [(await response(limiter, caller, "GET"))[0] for limiter in (one, other)]
        return [dict(sent[0]["headers"])[b"x-ratelimit-reset-requests"] for sent in responses]

    for _ in range(3):
        await resets()
    clock.step(-3600)
    clock.advance(1)
    assert len(set(await resets())) == 1


@pytest.mark.anyio
async def test_a_response_that_has_limit_headers_of_its_own_keeps_them() -> None:
    name = b"X-RateLimit-Reset-Requests"

    async def own(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(name, b"0")]})
        await send({"type": "http.response.body", "body": b""})

    exchange = Exchange.of({})
    exchange.headers.append((b"x-before", b"1"))
    exchange.complete([(name, b"0")])  # a name that was known as none of the exchange's
    limiter = RateLimit("9/minute", clock=FakeClock()).asgi(own)
    assert isinstance(limiter, LocalRateLimitMiddleware)
    for _ in range(4):
        (start, _), _ = await response(limiter, CALLERS[1], "GET")
        names = [name for name, _ in start["headers"]]
        assert names == [name, b"x-ratelimit-limit-requests", b"x-ratelimit-remaining-requests"]


@pytest.mark.anyio
async def test_callers_who_are_gone_are_forgotten_while_one_known_caller_goes_on() -> None:
    clock = FakeClock()
    limiter = RateLimit("1000000/minute", clock=clock).asgi(app)
    assert isinstance(limiter, LocalRateLimitMiddleware)
    table = limiter.shared.backend.store.table(limiter._static[0])  # type: ignore[union-attr]
    for number in range(1_000):
        limiter._hit(f"gone {number}", limiter._static, 1, int(clock.monotonic() * 1e6))
    assert table.count() == 1_000
    for _ in range(1_800):
        clock.advance(0.25)
        await response(limiter, CALLERS[1], "GET")
    assert table.count() < 10


@pytest.mark.anyio
@pytest.mark.parametrize("strategy", ["sliding-window-counter", "gcra"])
@pytest.mark.parametrize("caller", CALLERS[:2], ids=["an address", "a key"])
async def test_a_caller_goes_on_where_it_was_when_others_move_its_count(
    strategy: str, caller: list[tuple[bytes, bytes]]
) -> None:
    limiter = RateLimit("5/minute", clock=FakeClock(), strategy=strategy).asgi(app)
    assert isinstance(limiter, LocalRateLimitMiddleware)
    statuses: list[int] = []
    for number in range(6):
        statuses.append((await response(limiter, caller, "GET"))[0][0]["status"])
        for other in range(2_500 * number, 2_500 * number + 2_500):
            limiter._hit(f"other {other}", limiter._static, 1, 0)
    assert statuses == [200] * 5 + [429]


@pytest.mark.anyio
async def test_a_key_that_the_app_refuses_is_known_no_more() -> None:
    accepted = True

    async def changing(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200 if accepted else 401, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    limiter = RateLimit("9/minute", clock=FakeClock()).asgi(changing)
    assert isinstance(limiter, LocalRateLimitMiddleware)
    recent = limiter.shared.identifier.guard.recent
    for _ in range(3):
        await response(limiter, CALLERS[1], "GET")
    assert [*recent.places] == [b"Bearer a"]
    accepted = False
    await response(limiter, CALLERS[1], "GET")
    assert (recent.places, recent.digests) == ({}, {})


def test_places_are_forgotten_with_the_digests() -> None:
    recent = RecentKeys(80_000_000)
    recent.add(b"a", "digest", 0)
    recent.places[b"a"] = Place((print, "digest"), Shard(), {}, "digest", 0, 1_000_000)
    recent.add(b"b", "digest", 10_000_000)
    assert (recent.places, [*recent.digests]) == ({}, [b"b"])
