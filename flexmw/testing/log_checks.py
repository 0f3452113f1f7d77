"""The checks of a store of idempotency keys that also has the methods of :class:`flexmw.idempotency.LogStore`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, Final

import anyio

from flexmw.idempotency.stores import Appended, LogStore, Piece, Store

__all__ = ["LOG_CHECKS", "LONG", "PATIENCE", "SHORT", "demand", "put", "wait_until"]

LONG: Final = 30.0
"""Seconds of a lease or a time to live that does not end during a check."""

SHORT: Final = 0.05
"""Seconds of a lease or a time to live that ends during a check."""

PATIENCE: Final = 5.0
"""Seconds that a check waits for such an end."""

_WRITERS: Final = 8
"""Appends at one offset at the same time."""

_RECENT: Final = 2.0
"""Seconds after which a call of ``read`` must not count as older, on a busy machine too."""


_OTHER: Final = "b"
"""The token of another holder of a key than ``a``."""


def demand(holds: bool, promise: str) -> None:
    """Fail a check unless the promise holds."""
    if not holds:
        raise AssertionError(promise)


async def put(store: Store, key: str, token: str = "a", entry: bytes = b"x", ttl: float = LONG) -> Any:  # noqa: S107
    """Claim a key."""
    return await store.swap(key, "", token, entry, lease=LONG, ttl=ttl)


async def wait_until(condition: Callable[[], Awaitable[bool]], promise: str) -> None:
    """Wait until a condition holds, and fail the check if it does not."""
    with anyio.move_on_after(PATIENCE):
        while not await condition():  # noqa: ASYNC110 - a store has no event for it
            await anyio.sleep(0.01)
        return
    raise AssertionError(promise)


def _logs(store: Store) -> LogStore:
    assert isinstance(store, LogStore)
    return store


async def _append(
    store: Store,
    key: str,
    at: int,
    data: bytes,
    *,
    token: str = "a",  # noqa: S107
    generation: str = "g1",
    head: bytes = b"",
    last: bool = False,
    lease: float = LONG,
    ttl: float = LONG,
) -> Appended | None:
    return await _logs(store).append(key, token, generation, at, data, head=head, last=last, lease=lease, ttl=ttl)


async def _read(store: Store, key: str, start: int = 0, limit: int = 1 << 20, generation: str = "g1") -> Piece | None:
    return await _logs(store).read(key, generation, start, limit)


async def _appends_to_a_log(store: Store, key: str) -> None:
    demand(await _read(store, key) is None, "read() of a key that is not held must be None")
    demand(await _append(store, key, 0, b"x") is None, "append() to a key that is not held must be None")
    await put(store, key)
    demand(await _read(store, key) is None, "read() of a key without a log must be None")
    demand(await _append(store, key, 1, b"x") is None, "the first append() must be at 0")
    text = bytes(range(256)) * 200
    for start, end in ((0, 1), (1, 20_000), (20_000, 20_000), (20_000, 51_200)):
        written = await _append(store, key, start, text[start:end], head=b"head\n" if start == 0 else b"ignored")
        demand(written is not None and written.size == end, "append() must return the size of the log")
        piece = await _read(store, key)
        demand(piece is not None and piece.data == text[:end], "read() must return what was appended")
        demand(piece is not None and piece.head == b"head\n", "read() must return the head of the first append()")
    for start, limit in ((0, 1), (19_999, 2), (16_384, 16_384), (51_199, 5), (51_200, 5), (60_000, 5), (7, 0)):
        piece = await _read(store, key, start, limit)
        demand(piece is not None and piece.size == 51_200, "read() must return the size of the whole log")
        promise = f"read({start}, {limit}) must return the bytes from there on, and not more than asked for"
        demand(piece is not None and piece.data == text[start : start + limit], promise)
    held = await store.load(key)
    demand(held is not None and held[:2] == ("a", b"x"), "append() must leave token and entry as they are")
    names = [name async for name, _ in store.scan(key)]
    demand(names == [key], "scan() must show a key with a log once")


async def _repeats_an_append_without_harm(store: Store, key: str) -> None:
    await put(store, key)
    for data, at in ((b"one", 0), (b"two", 3)):
        for _ in range(2):
            written = await _append(store, key, at, data)
            demand(written is not None and written.size == at + 3, "a repeated append() must report success, once")
    for at, data in ((0, b"one"), (4, b"x"), (7, b"x"), (3, b"longer"), (0, b"")):
        demand(await _append(store, key, at, data) is None, "append() at another offset than the size must be None")
    for _ in range(2):
        written = await _append(store, key, 6, b"end", last=True)
        demand(written is not None and written.size == 9, "a repeated last append() must report success, once")
    demand(await _append(store, key, 9, b"x") is None, "nothing can be appended after the last append()")
    piece = await _read(store, key)
    demand(piece is not None and piece.data == b"onetwoend" and piece.ended, "read() must say that the log has ended")


async def _has_one_writer(store: Store, key: str) -> None:
    await put(store, key)
    written: list[bytes] = []

    async def write(data: bytes) -> None:
        if await _append(store, key, 0, data) is not None:
            written.append(data)

    async with anyio.create_task_group() as group:
        for number in range(_WRITERS):
            group.start_soon(write, b"%d" % number * (number + 1))
    piece = await _read(store, key)
    demand(len(written) == 1, f"of {_WRITERS} appends at one offset exactly one must be carried out")
    demand(piece is not None and piece.data == written[0], "the log must hold what the successful append() wrote")


async def _fences_a_log(store: Store, key: str) -> None:
    await put(store, key)
    await _append(store, key, 0, b"old")
    demand(await _append(store, key, 3, b"x", token=_OTHER) is None, "append() by another token must be None")
    await store.swap(key, "z", "b", b"y", lease=LONG, ttl=LONG)
    piece = await _read(store, key)
    demand(piece is not None and piece.data == b"old", "a swap() that did not take place must keep the log")
    demand(await _append(store, key, 3, b"x", generation="g2") is None, "a log of another generation begins at 0")
    await store.swap(key, "a", "b", b"y", lease=LONG, ttl=LONG)
    demand(await _read(store, key) is None, "a swap() of the key must delete its log")
    demand(await _append(store, key, 3, b"x") is None, "append() by an earlier token must be None")
    for generation in ("g2", "g3"):
        written = await _append(store, key, 0, b"new", token=_OTHER, generation=generation)
        demand(written is not None and written.size == 3, "the holder can begin a log")
    for generation in ("g1", "g2"):
        demand(await _read(store, key, generation=generation) is None, "read() of another generation must be None")
    await store.drop(key, "b")
    demand(await _read(store, key, generation="g3") is None, "a drop() of the key must delete its log")
    await put(store, key, "b")
    demand(await _read(store, key, generation="g3") is None, "the log of a dropped key must not come back")


async def _notices_readers(store: Store, key: str) -> None:
    await put(store, key)
    written = await _append(store, key, 0, b"1")
    demand(written is not None and written.wanted == inf, "append() must return inf while no reader has asked")
    await _read(store, key, generation="another")
    written = await _append(store, key, 1, b"2")
    demand(written is not None and 0 <= written.wanted < _RECENT, "append() must say that a reader has asked")


async def _renews_a_lease_with_an_append(store: Store, key: str) -> None:
    await store.swap(key, "", "a", b"x", lease=1.0, ttl=LONG)
    await _append(store, key, 0, b"1")
    held, piece = await store.load(key), await _read(store, key)
    demand(held is not None and 1.0 < held.lease <= LONG, "append() must renew the lease")
    demand(piece is not None and 1.0 < piece.lease <= LONG, "read() must return what is left of the lease")
    await _append(store, key, 1, b"2", lease=SHORT)

    async def has_run_out() -> bool:
        piece = await _read(store, key)
        demand(piece is not None and piece.data == b"12", "a log must outlast the lease of its key")
        return piece is not None and piece.lease <= 0

    await wait_until(has_run_out, "a lease must run out")


async def _expires_with_its_key(store: Store, key: str) -> None:
    await put(store, key)
    await _append(store, key, 0, b"1", lease=0.0, ttl=SHORT)

    async def has_expired() -> bool:
        piece, held = await _read(store, key), await store.load(key)
        demand(held is None or piece is not None, "a log must not expire alone")
        return held is None

    await wait_until(has_expired, "append() must set the time to live of the key")
    demand(await _read(store, key) is None, "a log must not outlive its key")
    await put(store, key)
    demand(await _read(store, key) is None, "the log of an expired key must not come back")


LOG_CHECKS: Final = (
    _appends_to_a_log,
    _repeats_an_append_without_harm,
    _has_one_writer,
    _fences_a_log,
    _notices_readers,
    _renews_a_lease_with_an_append,
    _expires_with_its_key,
)
"""The checks that :func:`flexmw.testing.check_store` runs for a store with a log."""
