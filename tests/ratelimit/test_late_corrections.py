"""A correction that the store takes late is made in the background: no request waits for it, and it is not lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flexmw.ratelimit.concurrency import finish_writes
from tests.ratelimit.calls import call, limiters, scope_of
from tests.ratelimit.test_settlement import body_of, sending
from tests.ratelimit.test_usage import USED

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
