"""A correction that the store takes late is made in the background: no request waits for it, and it is not lost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from starlette.types import Receive, Scope, Send

from flexmw.ratelimit.concurrency import finish_writes
from tests.ratelimit.calls import call, limiters, scope_of
from tests.ratelimit.test_settlement import body_of, sending
from tests.ratelimit.test_usage import USED
from tests.servers import redis_binary, redis_process, skip_unless
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_correction_that_takes_longer_than_a_decision_may_is_not_lost(redis_url: str) -> None:
    async with limiters(storage=redis_url, store_timeout=1.0) as make:
        app: Any = make(app=sending(body_of(USED)), tokens="1000/day", token_cost=500, usage="openai")
        await call(app, "sk-0")  # the connection is open
        refund, go = app.backend.store.refund, asyncio.Event()

        async def late(*values: Any) -> None:
            await go.wait()
            await refund(*values)

        app.backend.store.refund = late
        assert (await call(app)).status == 200
        assert (await app.explain(scope_of())).remaining == 500
        go.set()
        await finish_writes()
        assert (await app.explain(scope_of())).remaining == 988


@pytest.mark.parametrize("failures", [1, 4], ids=["refused", "breaker-open"])
async def test_a_correction_is_not_lost_while_the_store_is_away(
    failures: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The store takes the request, dies, and comes back empty: it then has what the request has used."""
    skip_unless(redis_binary(), "redis-server")
    with redis_process(str(redis_binary()), tmp_path) as server:

        async def dies_meanwhile(scope: Scope, receive: Receive, send: Send) -> None:
            server.kill()
            for _ in range(failures):  # the first one has lost a connection, and may have been carried out
                await app.explain(scope_of("sk-other"))
            await sending(body_of(USED))(scope, receive, send)

        async with limiters(storage=server.url, store_timeout=0.3) as make:
            app: Any = make(app=dies_meanwhile, tokens="1000/day", token_cost=0, usage="openai")
            assert (await call(app)).status == 200
            with server.restarted(tmp_path, b"PING"):
                seen = None
                async with asyncio.timeout(LONGEST_WAIT):
                    while seen is None or seen.degraded or seen.remaining == 1000:
                        await asyncio.sleep(0.05)
                        seen = await app.explain(scope_of())
                assert seen.remaining == 988
    assert "lost the correction" not in caplog.text


async def test_a_correction_that_is_lost_with_the_end_of_the_app_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    skip_unless(redis_binary(), "redis-server")
    with redis_process(str(redis_binary()), tmp_path) as server:

        async def dies_meanwhile(scope: Scope, receive: Receive, send: Send) -> None:
            server.kill()
            await sending(body_of(USED))(scope, receive, send)

        async with limiters(storage=server.url, store_timeout=0.3) as make:
            app: Any = make(app=dies_meanwhile, tokens="1000/day", token_cost=0, usage="openai")
            assert (await call(app)).status == 200
        # `limiters` closes the app: it does not wait for half a minute.
    assert [record.levelname for record in caplog.records if "lost the correction" in record.message] == ["WARNING"]


async def test_a_correction_that_the_store_may_have_is_not_repeated(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked = 0

    async def without_reply(*_: Any) -> None:
        nonlocal asked
        asked += 1
        raise RedisConnectionError("Connection closed by server.") from ConnectionResetError()

    async with limiters(storage=redis_url) as make:
        app: Any = make(app=sending(body_of(USED)), tokens="1000/day", token_cost=500, usage="openai")
        app.backend.store.refund = without_reply
        await call(app)
        await finish_writes()
    assert asked == 1
    assert "lost the correction" in caplog.text
