from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from examples.gateway.accounts import Accounts
from examples.gateway.jobs import KEPT, Clock, Jobs
from examples.gateway.store import CONNECTIONS, RedisStore, Store, StoreError, open_store

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/gateway.db"
    return str(request.getfixturevalue("redis_url"))


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = await open_store(url)
    yield opened
    await opened.close()


async def test_a_record_keeps_the_fields_it_was_given(store: Store) -> None:
    await store.write("dish", "tart", {"filling": "jam", "owner": "Queen"})
    await store.write("dish", "tart", {"owner": "Knave"})
    await store.write("dish", "soup", {"owner": "Mock Turtle"})
    assert await store.read("dish", "tart") == {"filling": "jam", "owner": "Knave"}
    assert sorted(await store.ids("dish")) == ["soup", "tart"]
    await store.delete("dish", "tart")
    assert await store.read("dish", "tart") == {}
    assert await store.ids("dish") == ["soup"]


async def test_numbers_are_added_up(store: Store) -> None:
    await store.write("purse", "Alice", {"balance": "1000"})
    await store.add("purse", "Alice", {"balance": -1, "spent": 1})
    await store.add("purse", "Alice", {"balance": -1500, "spent": 1500})
    assert await store.read("purse", "Alice") == {"balance": "-501", "spent": "1501"}


async def test_two_gateways_share_one_store_and_lose_no_debit(store: Store, url: str) -> None:
    other = await open_store(url)
    try:
        _, account = await Accounts(store).create(credit=1_000)
        both = [Accounts(store), Accounts(other)]
        await asyncio.gather(*(both[turn % 2].charge(account.id, 3, 2) for turn in range(100)))
        seen = await both[1].get(account.id)
    finally:
        await other.close()
    assert seen is not None
    assert (seen.balance, seen.spent, seen.calls, seen.tokens) == (700, 300, 100, 200)


async def test_a_burst_opens_no_more_connections_to_redis_than_its_pool_has(redis_url: str) -> None:
    store = await RedisStore.connect(redis_url, redis_url)
    try:
        before = (await store.client.info("stats"))["total_connections_received"]
        await asyncio.gather(*(store.add("purse", "Alice", {"balance": 1}) for _ in range(10 * CONNECTIONS)))
        opened = (await store.client.info("stats"))["total_connections_received"] - before
        assert await store.read("purse", "Alice") == {"balance": str(10 * CONNECTIONS)}
    finally:
        await store.close()
    assert 0 < opened < CONNECTIONS


async def test_the_store_never_holds_a_key(store: Store) -> None:
    key, account = await Accounts(store).create()
    records = {each: await store.read("account", each) for each in await store.ids("account")}
    assert list(records) == [account.id]
    assert key not in str(records)


async def test_a_revoked_key_opens_nothing_and_stays_on_record(store: Store) -> None:
    accounts = Accounts(store)
    key, account = await accounts.create(tier="paid")
    assert await accounts.of_key(key) == account
    await accounts.revoke(account.id)
    await accounts.top_up(account.id, 5)
    assert await accounts.of_key(key) is None
    kept = await accounts.get(account.id)
    assert kept is not None
    assert (kept.revoked, kept.balance) == (True, account.balance + 5)
    assert await accounts.get("acct-unknown") is None


async def test_an_unknown_tier_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="free, paid"):
        await Accounts(store).create(tier="gold")


async def test_a_job_is_kept_for_a_day_after_its_completion(store: Store) -> None:
    clock = Clock()
    jobs = Jobs(store, clock)
    await jobs.open("Alice", {"id": "v1", "status": "queued"})
    clock.move(10 * KEPT)  # not completed: nothing has begun to run out
    assert (await jobs.get("Alice", "v1") or {})["status"] == "queued"
    done = await jobs.update("v1", {"id": "v1", "status": "completed"})
    assert done["expires_at"] - done["completed_at"] == KEPT
    clock.move(KEPT - 5)
    assert await jobs.get("Alice", "v1") == done
    clock.move(10)
    assert await jobs.get("Alice", "v1") is None
    assert await store.ids("video") == []


async def test_a_job_belongs_to_one_account(store: Store) -> None:
    jobs = Jobs(store, Clock())
    await jobs.open("Alice", {"id": "v1", "status": "queued"})
    assert await jobs.get("Knave", "v1") is None


async def test_a_new_job_sweeps_out_the_expired_ones(store: Store) -> None:
    clock = Clock()
    jobs = Jobs(store, clock)
    await jobs.open("Alice", {"id": "v1", "status": "queued"})
    await jobs.update("v1", {"id": "v1", "status": "completed"})
    clock.move(KEPT + 1)
    await jobs.open("Alice", {"id": "v2", "status": "queued"})
    assert await store.ids("video") == ["v2"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://localhost", "sqlite:///"),
        ("gateway.db", "sqlite:///"),
        ("sqlite://", "sqlite:///"),
        ("sqlite:///no/such/folder/gateway.db", "unable to open"),
        ("redis://:secret@127.0.0.1:1/0", "that runs"),
        ("redis://127.0.0.1:port", "that runs"),
    ],
)
async def test_a_storage_that_cannot_work_says_why(url: str, words: str) -> None:
    with pytest.raises(StoreError, match=words) as caught:
        await open_store(url)
    assert "secret" not in str(caught.value)
