from __future__ import annotations

import importlib.util
from collections.abc import AsyncGenerator, Callable
from typing import Any, ClassVar

import pytest
from limits.aio.storage import RedisStorage

from flexmw.errors import ConfigError
from flexmw.kit.store_url import parse
from flexmw.ratelimit import RateLimit
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.core import SECOND, Slot
from flexmw.ratelimit.rates import parse_rates
from flexmw.ratelimit.stores import schemes
from flexmw.ratelimit.stores.limits import LimitsStore
from flexmw.testing import FakeClock
from tests.ratelimit.calls import answering, call, check_of
from tests.servers import skip_unless
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio


class Registered(RedisStorage):
    """A storage that a host registered with ``limits``: a scheme that flexmw knows nothing of, over a real server."""

    STORAGE_SCHEME: ClassVar[list[str]] = ["async+acme"]

    def __init__(self, uri: str, **options: Any) -> None:
        super().__init__(uri.replace("acme://", "redis://"), implementation="redispy", **options)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def acme_url(redis_url: str) -> str:
    return redis_url.replace("redis://", "acme://")


Make = Callable[[FakeClock], LimitsStore]


@pytest.fixture
async def counted(acme_url: str) -> AsyncGenerator[Make]:
    """Makes stores on the server, and closes their connections at the end: ``limits`` does not."""
    stores: list[LimitsStore] = []

    def make(clock: FakeClock) -> LimitsStore:
        store = LimitsStore(ALGORITHMS["fixed-window"], parse(acme_url, "storage", schemes=schemes()), clock)
        stores.append(store)
        return store

    yield make
    for store in stores:
        await store._storage.bridge.get_connection().aclose()


async def test_a_registered_storage_admits_the_limit_until_the_clock_s_window_ends(counted: Make) -> None:
    clock = FakeClock(now=1_800_000_020.5)
    store, rates = counted(clock), parse_rates("3/minute")
    said = [await store.decide(check_of("digest", rates, 1)) for _ in range(5)]
    assert [each.remaining for each in said] == [2, 1, 0, 0, 0]
    assert [each.wait_us for each in said] == [0, 0, 0, 39_500_000, 39_500_000]
    clock.advance(39.5)
    assert (await store.decide(check_of("digest", rates, 1))).remaining == 2


async def test_several_windows_and_looking_work(counted: Make) -> None:
    clock = FakeClock(now=1_800_000_000.0)
    store, rates = counted(clock), parse_rates(["2/minute", "3/hour"])
    assert (await store.decide(check_of("digest", rates, 1, take=False))).wait_us == 0
    assert [(await store.decide(check_of("digest", rates, 1))).wait_us for _ in range(3)] == [0, 0, 60 * SECOND]
    assert (await store.decide(check_of("digest", rates, 1, take=False))).wait_us == 60 * SECOND
    clock.advance(60)
    # The hour was not asked when the minute refused, so one is left in it.
    assert [(await store.decide(check_of("digest", rates, 1))).rate.name for _ in range(2)] == ["3/hour", "3/hour"]
    with pytest.raises(ConfigError, match="can give back"):
        await store.refund(check_of("digest", rates, 1))
    for refused in (store.renew, store.release):
        with pytest.raises(ConfigError, match="has leases"):
            await refused("digest", Slot("holder", 1, SECOND))


async def test_the_whole_limiter_runs_on_it(acme_url: str) -> None:
    app: Any = RateLimit(
        storage=acme_url, strategy="fixed-window", limit={"GET /v1/übermäßig/*": "2/day"}, store_timeout=LONGEST_WAIT
    ).asgi(answering())
    try:
        statuses = [(await call(app, path="/v1/übermäßig/x")).status for _ in range(3)]
    finally:
        await app.backend.store._storage.bridge.get_connection().aclose()
    assert statuses == [200, 200, 429]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strategy": "sliding-window-counter"}, "'fixed-window': acme can count"),
        ({"strategy": "gcra"}, "'fixed-window'"),
        ({"cost": lambda scope: 3}, "cannot give a reserve back"),
        ({"tokens": "100/minute"}, "cannot give a reserve back"),
        ({"concurrency": 3}, "acme has no leases"),
        ({"pepper": ("new", "old")}, "one pepper, or redis://"),
    ],
    ids=["default", "gcra", "settled", "tokens", "slots", "peppers"],
)
def test_options_that_the_store_cannot_serve_are_refused_at_start(options: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RateLimit("5/minute", storage="acme://localhost", **{"strategy": "fixed-window", **options})


def test_windows_that_memcached_would_forget_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flexmw.kit.store_url.find_spec", lambda name: object())
    RateLimit("5/30 day", storage="memcached://localhost", strategy="fixed-window")
    for rate in ("5/31 day", "5/year", "5/2 month"):
        with pytest.raises(ConfigError, match="30 days at most"):
            RateLimit(rate, storage="memcached://localhost", strategy="fixed-window")


async def test_memcached_counts_with_one_command(memcached_url: str) -> None:
    skip_unless(importlib.util.find_spec("memcachio"), "memcachio")
    limit = RateLimit("3/minute", storage=memcached_url, strategy="fixed-window", store_timeout=LONGEST_WAIT)
    app = limit.asgi(answering())
    assert [(await call(app)).status for _ in range(5)] == [200, 200, 200, 429, 429]
