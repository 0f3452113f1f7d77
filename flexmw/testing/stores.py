"""Test a store of idempotency keys against the interface :class:`flexmw.idempotency.Store`.

>>> from flexmw.idempotency import open_store
>>> from flexmw.testing.stores import check_store
>>> check_store(lambda: open_store("memory://"))
('reads_what_was_written', 'refuses_a_wrong_expectation', 'repeats_without_harm', 'keeps_bytes', 'tells_keys_apart', \
'renews_a_lease', 'drops', 'lets_a_lease_run_out', 'expires', 'has_one_winner', 'loses_no_change', 'scans', \
'works_after_it_was_closed', 'appends_to_a_log', 'repeats_an_append_without_harm', 'has_one_writer', 'fences_a_log', \
'notices_readers', 'renews_a_lease_with_an_append', 'expires_with_its_key')
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from secrets import token_hex
from typing import Final

import anyio

from flexmw.idempotency.stores import Held, LogStore, Store
from flexmw.testing.log_checks import LOG_CHECKS, LONG, SHORT, demand, put, wait_until
from flexmw.testing.many_checks import many_checks

__all__ = ["check_store"]

_RIVALS: Final = 24
"""Claims of one key at the same time."""

_BOUND: Final = 4
"""Keys that a store holds at most in the checks of its bound."""


def check_store(
    factory: Callable[[], Store], *, bounded: Callable[[int], Store] | None = None, backend: str = "asyncio"
) -> tuple[str, ...]:
    """Run every check, and return the names of the checks. Takes about a second.

    A store that has the methods of :class:`flexmw.idempotency.LogStore`, ``extend_many`` or ``swap_pair`` is checked
    against those too.

    The keys are random and expire soon, so the store may have other contents.

    :param factory: makes a store; each check gets a new one.
    :param bounded: makes an empty store that holds at most so many keys, for two more checks. ``None``: the store has
        no bound of its own.
    :param backend: ``"asyncio"`` or ``"trio"``.
    :raises AssertionError: names the first check that fails, and the promise of the interface that was broken.
    """
    store = factory()
    checks = (*_CHECKS, *(LOG_CHECKS if isinstance(store, LogStore) else ()), *many_checks(store))
    anyio.run(store.aclose, backend=backend)
    runs = [(check, factory) for check in checks]
    if bounded is not None:
        runs += [(check, partial(bounded, _BOUND)) for check in _BOUND_CHECKS]
    for check, make in runs:
        try:
            anyio.run(partial(_run, check, make), backend=backend)
        except AssertionError as error:
            raise AssertionError(f"{check.__name__.strip('_')}: {error}") from None
    return tuple(check.__name__.strip("_") for check, _ in runs)


async def _run(check: Callable[[Store, str], Awaitable[None]], factory: Callable[[], Store]) -> None:
    store = factory()
    try:
        await check(store, f"check:{{{token_hex(8)}}}:")
    finally:
        await store.aclose()


def _has_token(held: Held | None, token: str) -> bool:
    return held is not None and held.token == token


async def _reads_what_was_written(store: Store, key: str) -> None:
    demand(await store.load(key) is None, "load() of a key that was never written must be None")
    written = await put(store, key)
    demand(written is not None and written[:2] == ("a", b"x"), "swap() must return what it wrote")
    held = await store.load(key)
    demand(held is not None and held[:2] == ("a", b"x"), "load() must return token and entry as written")
    demand(held is not None and 0 < held.lease <= LONG, "a fresh lease must have time left, and not more than given")


async def _refuses_a_wrong_expectation(store: Store, key: str) -> None:
    absent = await store.swap(key, "a", "b", b"y", lease=LONG, ttl=LONG)
    demand(absent is None, "swap() that expects a token must not write where nothing is held, and return None")
    await put(store, key)
    for expected in ("", "z"):
        held = await store.swap(key, expected, "b", b"y", lease=LONG, ttl=LONG)
        demand(held is not None and held[:2] == ("a", b"x"), "swap() must return what is held instead of writing")
    held = await store.swap(key, "a", "b", b"y", lease=LONG, ttl=LONG)
    demand(held is not None and held[:2] == ("b", b"y"), "swap() must write where the expected token is held")


async def _repeats_without_harm(store: Store, key: str) -> None:
    await put(store, key)
    again = await put(store, key)
    demand(_has_token(again, "a"), "a repeated swap() must report the success of the first")
    await store.swap(key, "a", "b", b"y", lease=LONG, ttl=LONG)
    again = await store.swap(key, "a", "b", b"y", lease=LONG, ttl=LONG)
    demand(again is not None and again[:2] == ("b", b"y"), "a repeated swap() must report the success of the first")


async def _keeps_bytes(store: Store, key: str) -> None:
    for number, entry in enumerate((b"", bytes(range(256)), b"\r\n\0" * 100_000)):
        await put(store, f"{key}{number}", entry=entry)
        held = await store.load(f"{key}{number}")
        demand(held is not None and held.entry == entry, f"an entry of {len(entry)} bytes must come back as it was")


async def _tells_keys_apart(store: Store, key: str) -> None:
    names = [f"{key}{tail}" for tail in ("", "*", "?", "[a]", "a b", "é", "A", "a", "\\", "%", "_")]
    for name in names:
        await put(store, name, entry=name.encode())
    for name in names:
        held = await store.load(name)
        demand(held is not None and held.entry == name.encode(), f"key {name!r} must not be confused with another one")


async def _renews_a_lease(store: Store, key: str) -> None:
    demand(not await store.extend(key, "a", lease=LONG, ttl=LONG), "extend() of nothing must be False")
    await store.swap(key, "", "a", b"x", lease=1.0, ttl=LONG)
    demand(not await store.extend(key, "b", lease=LONG, ttl=LONG), "extend() by another token must be False")
    held = await store.load(key)
    demand(held is not None and held.lease <= 1.0, "extend() by another token must change nothing")
    demand(await store.extend(key, "a", lease=LONG, ttl=LONG), "extend() by the holder must be True")
    held = await store.load(key)
    demand(held is not None and held.lease > 1.0 and held.entry == b"x", "extend() must renew the lease alone")


async def _drops(store: Store, key: str) -> None:
    demand(not await store.drop(key, "a"), "drop() of nothing must be False")
    await put(store, key)
    demand(not await store.drop(key, "b"), "drop() by another token must be False")
    demand(await store.load(key) is not None, "drop() by another token must change nothing")
    demand(await store.drop(key, "a"), "drop() by the holder must be True")
    demand(await store.load(key) is None, "a dropped key must be gone")


async def _lets_a_lease_run_out(store: Store, key: str) -> None:
    await store.swap(key, "", "a", b"x", lease=SHORT, ttl=LONG)

    async def has_run_out() -> bool:
        held = await store.load(key)
        demand(held is not None, "an entry must outlast its lease")
        return held is not None and held.lease <= 0

    await wait_until(has_run_out, "a lease must run out")
    held = await store.swap(key, "a", "b", b"y", lease=LONG, ttl=LONG)
    demand(_has_token(held, "b"), "an entry whose lease ran out can be swapped")


async def _expires(store: Store, key: str) -> None:
    await store.swap(key, "", "a", b"x", lease=0.0, ttl=SHORT)

    async def has_expired() -> bool:
        return await store.load(key) is None

    await wait_until(has_expired, "an entry must not outlive its time to live")
    demand([name async for name, _ in store.scan(key)] == [], "scan() must not show an expired entry")
    demand(not await store.extend(key, "a", lease=1.0, ttl=1.0), "extend() must not revive an expired entry")
    held = await put(store, key, "b")
    demand(_has_token(held, "b"), "an expired key is free")


async def _has_one_winner(store: Store, key: str) -> None:
    won: list[str] = []

    async def claim(token: str) -> None:
        held = await store.swap(key, "", token, token.encode(), lease=LONG, ttl=LONG)
        if _has_token(held, token):
            won.append(token)

    async with anyio.create_task_group() as group:
        for number in range(_RIVALS):
            group.start_soon(claim, f"t{number}")
    held = await store.load(key)
    demand(len(won) == 1, f"of {_RIVALS} claims at once exactly one must win, not {len(won)}")
    demand(held is not None and held[:2] == (won[0], won[0].encode()), "the key must hold the entry of the winner")


async def _loses_no_change(store: Store, key: str) -> None:
    async def add(name: str) -> None:
        held = await store.load(key)
        while True:
            expected, entry = ("", b"") if held is None else (held.token, held.entry)
            token = token_hex(4)
            held = await store.swap(key, expected, token, entry + name.encode(), lease=0.0, ttl=LONG)
            if _has_token(held, token):
                return

    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(add, str(number))
    held = await store.load(key)
    demand(held is not None and sorted(held.entry.decode()) == list("0123456789"), "no successful swap() may be lost")


async def _scans(store: Store, key: str) -> None:
    for number in range(30):
        await put(store, f"{key}{number}", f"t{number}")
    await put(store, f"other:{key}", ttl=5.0)
    entries = [(name, held.token) async for name, held in store.scan(key)]
    demand(
        sorted(entries) == sorted((f"{key}{n}", f"t{n}") for n in range(30)),
        "scan() must show every key with the prefix once, and no other",
    )


async def _works_after_it_was_closed(store: Store, key: str) -> None:
    await store.aclose()
    held = await put(store, key)
    demand(_has_token(held, "a"), "a closed store must open itself again")


async def _forgets_the_oldest(store: Store, key: str) -> None:
    await put(store, f"{key}running")
    for number in range(3 * _BOUND):
        held = await store.swap(f"{key}{number}", "", "a", b"x", lease=0.0, ttl=LONG)
        demand(_has_token(held, "a"), "a full store must delete a key whose lease has run out, and take the new key")
    names = {name async for name, _ in store.scan(key)}
    newest = {f"{key}{number}" for number in range(2 * _BOUND + 1, 3 * _BOUND)}
    demand(f"{key}running" in names, "a full store must not delete the key of a running request")
    demand(len(names) <= _BOUND, f"a store of {_BOUND} keys must not hold {len(names)}")
    demand(newest <= names, "a full store must delete the oldest keys first, and no more than it has to")


async def _refuses_when_all_run(store: Store, key: str) -> None:
    running = [f"{key}{number}" for number in range(_BOUND)]
    for name in running:
        await put(store, name)
    try:
        await put(store, f"{key}new")
    except Exception:
        refused = True
    else:
        refused = False
    demand(refused, "swap() must raise where all keys belong to running requests")
    names = {name async for name, _ in store.scan(key)}
    demand(names == {*running}, "a refused claim must leave nothing behind, and delete no running request")
    held = await store.swap(running[0], "a", "b", b"y", lease=0.0, ttl=LONG)
    demand(_has_token(held, "b"), "a full store must take the response of a running request")
    demand(_has_token(await put(store, f"{key}new"), "a"), "a store must take a claim as soon as a request has ended")


_BOUND_CHECKS: Final = (_forgets_the_oldest, _refuses_when_all_run)

_CHECKS: Final = (
    _reads_what_was_written,
    _refuses_a_wrong_expectation,
    _repeats_without_harm,
    _keeps_bytes,
    _tells_keys_apart,
    _renews_a_lease,
    _drops,
    _lets_a_lease_run_out,
    _expires,
    _has_one_winner,
    _loses_no_change,
    _scans,
    _works_after_it_was_closed,
)
