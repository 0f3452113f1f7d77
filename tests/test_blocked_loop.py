"""An event loop that a callback blocks again and again: a store that replies is used, and a silent one is left.

Each time limit of a component that awaits a store is met here: see :mod:`flexmw.kit.loop_time`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Scope

from flexmw import Idempotency, RateLimit, wrap_app
from flexmw.kit.exchange import Exchange
from tests.app_calls import ask, responding, scope_of
from tests.servers import Child
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def blocked_loop(seconds: float) -> AsyncGenerator[None]:
    """Block each turn of the event loop for so long."""
    is_over = False

    async def block() -> None:
        while not is_over:
            time.sleep(seconds)  # noqa: ASYNC251
            await asyncio.sleep(0)

    blocking = asyncio.create_task(block())
    try:
        yield
    finally:
        is_over = True
        await blocking


def keyed(number: int) -> Scope:
    return scope_of(method="POST", headers=[("idempotency-key", f"key-{number}")])


async def statuses(app: ASGIApp, scopes: list[Scope]) -> list[int]:
    async with asyncio.timeout(LONGEST_WAIT):
        return [response.status for response in await asyncio.gather(*(ask(app, scope) for scope in scopes))]


@pytest.mark.parametrize("store", ["redis", "sqlite"])
async def test_keyed_requests_are_executed_once_on_a_blocked_loop(redis_url: str, tmp_path: Path, store: str) -> None:
    """Connecting, loading the scripts, learning the server's clock: more turns than ``store_timeout`` is long."""
    endpoint = responding()
    url = redis_url if store == "redis" else f"sqlite:///{tmp_path / 'keys.db'}"
    app = wrap_app(endpoint, Idempotency(storage=url, store_timeout=0.4))
    async with blocked_loop(0.06):
        assert await statuses(app, [keyed(number) for number in range(16)]) == [200] * 16
    assert endpoint.calls == 16  # type: ignore[attr-defined]


async def test_a_limit_is_exact_on_a_blocked_loop(redis_url: str) -> None:
    app = wrap_app(responding(), RateLimit("20/minute", storage=redis_url, store_timeout=0.05))
    scopes = [scope_of() for _ in range(32)]
    async with blocked_loop(0.03):
        assert sorted(await statuses(app, scopes)) == [200] * 20 + [429] * 12
    results = [Exchange.of(scope).facts["flexmw.rate_limiting.result"] for scope in scopes]
    assert set(results) == {"acquired", "rejected"}


async def test_a_silent_store_is_given_up_on_a_blocked_loop(redis_url: str, redis_server: Child) -> None:
    limited = wrap_app(responding(), RateLimit("20/minute", storage=redis_url, store_timeout=0.05))
    protected = wrap_app(responding(), Idempotency(storage=redis_url, store_timeout=0.1))
    assert await statuses(limited, [scope_of()]) == await statuses(protected, [keyed(0)]) == [200]
    with redis_server.frozen():
        async with blocked_loop(0.015):  # more than a quarter of the shorter limit
            scope = scope_of()
            assert await statuses(limited, [scope]) == [200]
            assert await statuses(protected, [keyed(1)]) == [503]
    assert Exchange.of(scope).facts["flexmw.rate_limiting.result"] == "storage_error_allowed"
