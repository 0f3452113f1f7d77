from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import pytest

from flexmw.errors import ConfigError
from flexmw.kit.clock import SYSTEM
from flexmw.kit.exchange import Exchange
from flexmw.ratelimit import RateLimit, settle
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.core import Check, LimitResult, Rate, Slot
from flexmw.ratelimit.fallback import FallbackBackend, parse_store_failure
from flexmw.ratelimit.rates import parse_rates
from flexmw.testing import FakeClock
from tests.ratelimit.calls import Make, answering, ask, call, check_of, count_timeouts, limiters, scope_of
from tests.servers import Child, redis_binary, redis_process, skip_unless
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def limited() -> AsyncGenerator[Make]:
    async with limiters() as make:
        yield make


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def test_a_store_that_is_down_is_never_a_500_and_this_process_limits_alone(
    limited: Make, closed_port: int
) -> None:
    app = limited("3/minute", storage=f"redis://127.0.0.1:{closed_port}", on_store_failure="local")
    told: list[tuple[str, Any]] = []
    statuses, results = [], []
    for _ in range(6):
        scope = scope_of()
        Exchange.of(scope).subscribe(lambda event, details: told.append((event, details)))
        statuses.append((await ask(app, scope)).status)
        results.append(Exchange.of(scope).facts["flexmw.rate_limiting.result"])
    assert statuses == [200] * 3 + [429] * 3
    assert results == ["storage_error_allowed"] * 3 + ["storage_error_rejected"] * 3
    failed = [details for event, details in told if event == "flexmw.rate_limiting.storage_failed"]
    assert len(failed) == 3  # then the breaker is open and nobody asks
    assert all(details["policy"] == "3/minute" and isinstance(details["exception"], Exception) for details in failed)
    decided = [details for event, details in told if event == "flexmw.rate_limiting.decided"]
    assert [details.get("error_type") for details in decided[2:4]] == ["ConnectionError", None]
    assert decided[0]["degraded"]


async def test_a_share_of_the_limit_is_what_one_of_several_processes_admits_alone(
    limited: Make, closed_port: int
) -> None:
    app = limited("8/minute", "3/day", storage=f"redis://127.0.0.1:{closed_port}", on_store_failure="local/4")
    answers = [await call(app) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 429, 429]


async def test_open_lets_every_request_pass_without_limit_headers(limited: Make, closed_port: int) -> None:
    app = limited("1/minute", storage=f"redis://127.0.0.1:{closed_port}", on_store_failure="open")
    for _ in range(5):
        scope = scope_of()
        answer = await ask(app, scope)
        assert (answer.status, "x-ratelimit-limit-requests" in answer) == (200, False)
        assert Exchange.of(scope).facts["flexmw.rate_limiting.result"] == "storage_error_allowed"


async def test_closed_sends_503_and_says_when_to_come_back(limited: Make, closed_port: int) -> None:
    app = limited("1/minute", storage=f"redis://127.0.0.1:{closed_port}", on_store_failure="closed", exempt="/health")
    for _ in range(5):
        answer = await call(app)
        assert (answer.status, answer.error["code"]) == (503, "service_unavailable")
        assert int(answer["retry-after"]) >= 1
    assert (await call(app, path="/health")).status == 200


async def test_a_store_that_never_responds_costs_three_timeouts_and_then_nothing(
    limited: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, counts = count_timeouts(monkeypatch), []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as hole:
        url = f"redis://127.0.0.1:{hole.getsockname()[1]}"
        app = limited("100/minute", storage=url, store_timeout=0.1, on_store_failure="local", clock=FakeClock())
        for _ in range(8):
            assert (await call(app)).status == 200
            counts.append(len(waits))
    assert counts == [1, 2, 3, 3, 3, 3, 3, 3]


async def test_a_store_that_recovers_is_used_again_and_its_count_continues(
    limited: Make, redis_server: Child, redis_url: str
) -> None:
    app = limited("100/minute", storage=redis_url, store_timeout=0.2)
    assert (await call(app)).quota[1] == 99
    with redis_server.frozen():
        for _ in range(5):
            assert (await call(app)).status == 200
    explained = None
    async with asyncio.timeout(LONGEST_WAIT):
        while explained is None or explained.degraded:
            await asyncio.sleep(0.05)
            explained = await app.explain(scope_of())
    # What the frozen server had received before the budget ran out is carried out when it wakes up.
    assert 95 <= explained.remaining <= 99


async def test_a_server_that_restarts_elsewhere_in_time_is_found_again(limited: Make, tmp_path: Path) -> None:
    skip_unless(redis_binary(), "redis-server")
    with redis_process(str(redis_binary()), tmp_path) as child:
        app = limited("100/minute", storage=child.url, store_timeout=0.3)
        assert (await call(app)).quota[1] == 99
        child.kill()
        assert [(await call(app)).status for _ in range(4)] == [200] * 4


async def test_a_busy_event_loop_is_not_a_dead_store(limited: Make, redis_url: str) -> None:
    app = limited("40/minute", storage=redis_url, store_timeout=0.05)
    busy = True

    async def hold_up() -> None:
        while busy:
            time.sleep(0.12)  # noqa: ASYNC251 - more than twice the budget, again and again
            await asyncio.sleep(0)

    holder = asyncio.create_task(hold_up())
    answers = await asyncio.gather(*(call(app, "sk-busy") for _ in range(60)))
    busy = False
    await holder
    assert sorted(answer.quota[1] for answer in answers if answer.status == 200) == list(range(40))
    assert sum(answer.status == 429 for answer in answers) == 20


async def test_one_slow_response_does_not_open_the_breaker(limited: Make, redis_server: Child, redis_url: str) -> None:
    app = limited("100/minute", storage=redis_url, store_timeout=1.0)
    await call(app)
    with redis_server.frozen():
        scope = scope_of()
        await ask(app, scope)
        assert Exchange.of(scope).facts["flexmw.rate_limiting.result"] == "storage_error_allowed"
    scope = scope_of()
    await ask(app, scope)
    assert Exchange.of(scope).facts["flexmw.rate_limiting.result"] == "acquired"


async def test_a_client_that_disconnects_is_not_counted_as_a_failure_of_the_store() -> None:
    entered = asyncio.Event()

    class Slow:
        async def decide(self, check: Check) -> LimitResult:
            entered.set()
            await asyncio.sleep(60)
            raise AssertionError

        async def refund(self, check: Check, age_us: int) -> None: ...
        async def renew(self, digest: str, slot: Slot, *, takes: bool = False) -> bool:
            raise AssertionError

        async def release(self, digest: str, slot: Slot) -> None: ...
        async def close(self) -> None: ...

    failure = parse_store_failure("local", "x")
    backend = FallbackBackend(Slow(), ALGORITHMS["gcra"], failure, timeout=30.0, clock=SYSTEM)
    task = asyncio.create_task(backend.decide(check_of("caller", parse_rates("1/minute"))))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (backend._breaker._failures, backend.retry_in) == (0, 0.0)


async def test_an_estimate_is_corrected_where_it_was_reserved(limited: Make, closed_port: int) -> None:
    app = limited(
        tokens="100/minute", token_cost=90, storage=f"redis://127.0.0.1:{closed_port}", on_store_failure="local"
    )
    inner = app.app

    async def model(scope: Any, receive: Any, send: Any) -> None:
        settle(30)
        await inner(scope, receive, send)

    app.app = model
    assert [(await call(app)).status for _ in range(2)] == [200, 429]
    explained = await app.explain(scope_of())
    assert explained is not None
    assert (explained.remaining, explained.degraded) == (70, True)


async def test_open_passes_and_closed_refuses_a_request_that_needs_a_slot(limited: Make, closed_port: int) -> None:
    for mode, status in (("open", 200), ("closed", 503)):
        app = limited(concurrency=1, storage=f"redis://127.0.0.1:{closed_port}", on_store_failure=mode)
        scope = scope_of()
        assert (await ask(app, scope)).status == status
        assert Exchange.of(scope).facts["flexmw.rate_limiting.policy"] == "1 at once"


@pytest.mark.parametrize("value", ["", "local/x", "local/-1", "closed/2", None, 7])
def test_an_unknown_store_failure_mode_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="'local/<number of processes>'"):
        parse_store_failure(value, "on_store_failure")


def test_a_share_is_never_less_than_one_request() -> None:
    shares = parse_store_failure("local/8", "x").local(check_of("caller", parse_rates(["4/minute", "80/day"]))).rates
    assert [share.limit for share in shares] == [1, 10]
    assert all(isinstance(share, Rate) for share in shares)


def test_a_store_over_a_network_says_that_it_cannot_run_under_trio(closed_port: int) -> None:
    app = RateLimit("1/minute", storage=f"redis://127.0.0.1:{closed_port}", on_store_failure="open").asgi(answering())
    for scope in (scope_of(), {"type": "lifespan"}):
        with pytest.raises(ConfigError, match="memory:// under trio"):
            anyio.run(ask, app, scope, backend="trio")


async def test_a_lifespan_closes_the_connections_at_its_end(limited: Make, redis_url: str) -> None:
    app = limited("5/minute", storage=redis_url, store_timeout=LONGEST_WAIT)
    await call(app)
    store: Any = app.backend.store
    assert len(store._clients) == 1
    await ask(app, {"type": "lifespan"})
    assert len(store._clients) == 0
    assert (await call(app)).quota[1] == 3
