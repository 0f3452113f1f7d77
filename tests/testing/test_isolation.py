"""State is forgotten, the clock stands still, and stores are in memory: for components that exist already, too."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import anyio
import httpx
import pytest
import redis.asyncio
from starlette.testclient import TestClient

import flexmw
from flexmw.kit.clock import SYSTEM
from flexmw.testing import assert_outcome, fake_clock, memory_stores, reset, use_memory_stores


async def created(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 201, "headers": []})
    await send({"type": "http.response.body"})


def statuses(client: TestClient, number: int = 2) -> list[int]:
    return [client.post("/", headers={"authorization": "Bearer a"}).status_code for _ in range(number)]


def exhausted(*rates: str, **options: Any) -> TestClient:
    client = TestClient(flexmw.wrap_app(created, flexmw.RateLimit(*rates, **options)))
    assert statuses(client) == [201, 429]
    return client


@pytest.mark.parametrize("strategy", ["sliding-window-counter", "fixed-window", "moving-window", "gcra"])
def test_counts_are_forgotten(strategy: str) -> None:
    client = exhausted("1/minute", strategy=strategy)
    reset()
    assert statuses(client) == [201, 429]


@pytest.mark.parametrize("rate", ["1/year", "1/calendar-month", "1/calendar-year"])
def test_the_longest_windows_are_forgotten(rate: str) -> None:
    client = exhausted(rate)
    reset()
    assert statuses(client) == [201, 429]


def test_keys_are_forgotten() -> None:
    client = TestClient(flexmw.wrap_app(created, flexmw.Idempotency()))
    headers = {"idempotency-key": "k"}
    assert "idempotent-replayed" not in client.post("/", headers=headers).headers
    assert "idempotent-replayed" in client.post("/", headers=headers).headers
    reset()
    assert "idempotent-replayed" not in client.post("/", headers=headers).headers


def test_the_wall_clock_is_right_after_a_reset() -> None:
    reset()
    client = TestClient(flexmw.wrap_app(created, flexmw.RateLimit("1/minute")))
    ends = float(client.post("/").headers["x-ratelimit-reset-requests"])
    assert 0 < ends - time.time() < 3600


def test_a_clock_that_stands_still_moves_windows_when_it_is_moved() -> None:
    client = exhausted("1/hour", strategy="fixed-window")
    with fake_clock() as clock:
        assert clock.monotonic() == SYSTEM.monotonic()
        assert statuses(client, 1) == [429]
        clock.advance(3601)
        assert statuses(client, 1) == [201]
        reset()
        assert statuses(client, 1) == [201]
        assert abs(clock.now() - time.time() - 3601) < 3600, "the wall clock stays"
        last = clock.monotonic()
    assert SYSTEM.monotonic() >= last, "it never goes backwards"


def test_waits_of_clients_take_no_time() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        return httpx.Response(429, headers={"retry-after": "50"})

    blocking = flexmw.wrap_client(httpx.Client(transport=httpx.MockTransport(refuse)), flexmw.Retry(jitter=0.0))
    waiting = flexmw.wrap_client(httpx.AsyncClient(transport=httpx.MockTransport(refuse)), flexmw.Retry(jitter=0.0))

    async def get() -> httpx.Response:
        async with waiting:
            return await waiting.get("https://api.example/")

    with fake_clock() as clock:
        assert_outcome(blocking.get("https://api.example/"), "refused", reason="deadline", attempts=2, waited=50.0)
        assert_outcome(anyio.run(get), "refused", attempts=2, waited=50.0)
        assert clock.slept == [50.0, 50.0]
    blocking.close()


def test_every_component_keeps_its_state_in_memory() -> None:
    def made(storage: Any) -> list[str]:
        components = (flexmw.RateLimit("1/minute", storage=storage), flexmw.Idempotency(storage=storage))
        return [flexmw.Stack(each).describe()[0]["options"]["storage"] for each in (*components, pace(storage))]

    def pace(storage: Any) -> flexmw.Pace:
        return flexmw.Pace(storage=storage)

    with memory_stores():
        assert made("redis://no-such-host.invalid:1") == ["memory://"] * 3
        assert made(redis.asyncio.Redis(port=1)) == ["memory://"] * 3
        assert flexmw.Stack("idempotency", flexmw.component("pace", storage="redis://no-such-host.invalid"))
    assert flexmw.Idempotency(storage="sqlite:///keys.db").storage == "sqlite:///keys.db"


def test_components_that_exist_and_stores_that_are_objects_stay() -> None:
    from flexmw.idempotency import open_store

    store, before = open_store("memory://"), flexmw.RateLimit("1/minute", storage="redis://no-such-host.invalid")
    end = use_memory_stores()
    try:
        assert flexmw.Idempotency(storage=store).storage is store
        assert before.storage == "redis://no-such-host.invalid"
    finally:
        end()


def test_the_plugin_imports_nothing_but_pytest() -> None:
    code = "import pytest, sys, pytest_flexmw; print([name for name in sys.modules if name.startswith('flexmw')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_fixtures_are_there(flexmw_clock: Any, flexmw_reset: None, flexmw_memory_stores: None) -> None:
    flexmw_clock.advance(1.0)
    assert flexmw.RateLimit("1/minute", storage="redis://no-such-host.invalid").storage == "memory://"
