"""The least that a keyed POST on a sqlite file can cost with many at once: group commit by hand, in 60 lines.

:class:`GroupFloor` keeps the promise that decides the cost: a claim is durable before the app runs, and a response is
durable before it is sent. It knows neither leases, callers, bounds and streams, nor other processes, and never ends a
wait. :class:`StoreFloor` is the same middleware over flexmw's own store, which knows leases, times to live, the bounds
of the file, other processes and replaced files, and ends a wait. The difference is the cost of the store.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from hashlib import sha256
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, NamedTuple

from flexmw.idempotency.stores.sqlite_async import AsyncSQLiteStore
from flexmw.idempotency.stores.sqlite_size import Bounds
from flexmw.idempotency.stores.sqlite_store import SQLiteStore

__all__ = ["GroupFloor", "StoreFloor"]

_RUNNING: Final = 60.0
"""Seconds until the outcome of a claim counts as unknown."""

_TTL: Final = 86_400.0
"""Seconds that a store keeps a key."""

_BOUNDS: Final = Bounds(10_000_000, 1 << 40)
"""Bounds of the file that no run reaches."""

_WRITE: Final = """
insert into floor values (?, ?, ?, ?) on conflict (key) do update set
token = excluded.token, entry = excluded.entry, until = excluded.until
"""


class _Write(NamedTuple):
    """A row that a request wants to write, and what the request waits for: the entry that the key holds instead."""

    key: str
    expected: str
    token: str
    entry: bytes
    until: float
    waiter: asyncio.Future[bytes | None]


class GroupFloor:
    """A middleware by hand over a sqlite file. The writes that wait at the end of a turn of the loop are one
    transaction.

    :param app: the app.
    :param path: the file.
    """

    def __init__(self, app: Any, path: Path) -> None:
        self._app = app
        self._turn: list[_Write] = []
        self._groups: SimpleQueue[list[_Write] | None] = SimpleQueue()
        self._tokens = itertools.count()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for statement in ("pragma journal_mode = wal", "pragma synchronous = full"):
            self._connection.execute(statement)
        self._connection.execute("create table floor (key text primary key, token text, entry blob, until real)")
        self._thread = Thread(target=self._commit_groups, daemon=True)
        self._thread.start()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        name = dict(scope.get("headers", ())).get(b"idempotency-key")
        if scope["type"] != "http" or name is None:
            await self._app(scope, receive, send)
            return
        message = await receive()
        body = message["body"]
        while message.get("more_body"):
            message = await receive()
            body += message["body"]
        # Clients send random keys. Those of the benchmark count up, and would share the pages of the index.
        key, loop = sha256(name).hexdigest(), asyncio.get_running_loop()
        digest = sha256(scope["path"].encode() + body).digest()
        token = str(next(self._tokens))
        held = await self._write(key, "", token, digest, loop.time() + _RUNNING)
        if held is not None:
            if held[:32] != digest or len(held) == 32:
                status = 409 if held == digest else 422
                await send({"type": "http.response.start", "status": status, "headers": []})
                await send({"type": "http.response.body", "body": b""})
                return
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": held[32:]})
            return
        unread = [{"type": "http.request", "body": body, "more_body": False}]
        parts: list[bytes] = []

        async def receive_again() -> Any:
            return unread.pop() if unread else await receive()

        async def keep(message: Any) -> None:
            if message["type"] == "http.response.body":
                parts.append(message.get("body", b""))
                if not message.get("more_body"):
                    await self._write(key, token, "done", digest + b"".join(parts), 0.0)
            await send(message)

        await self._app(scope, receive_again, keep)

    async def close(self) -> None:
        """End the thread and close the file."""
        self._groups.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()

    async def _write(self, key: str, expected: str, token: str, entry: bytes, until: float) -> bytes | None:
        loop = asyncio.get_running_loop()
        if not self._turn:
            loop.call_soon(self._end_turn)
        waiter: asyncio.Future[bytes | None] = loop.create_future()
        self._turn.append(_Write(key, expected, token, entry, until, waiter))
        return await waiter

    def _end_turn(self) -> None:
        self._groups.put(self._turn)
        self._turn = []

    def _commit_groups(self) -> None:
        connection = self._connection
        while (group := self._groups.get()) is not None:
            connection.execute("begin immediate")
            marks = ", ".join("?" * len(group))
            select = f"select key, token, entry from floor where key in ({marks})"
            held: dict[str, tuple[str, bytes]] = {}
            for key, token, entry in connection.execute(select, [write.key for write in group]):
                held[key] = token, entry
            results: list[tuple[_Write, bytes | None]] = []
            rows: list[tuple[str, str, bytes, float]] = []
            for write in group:
                token, entry = held.get(write.key, ("", b""))
                is_written = token == write.expected
                if is_written:
                    held[write.key] = write.token, write.entry
                    rows.append(write[:1] + write[2:5])
                results.append((write, None if is_written else entry))
            connection.executemany(_WRITE, rows)
            connection.commit()
            group[0].waiter.get_loop().call_soon_threadsafe(_deliver, results)


class StoreFloor(GroupFloor):
    """The same middleware by hand over flexmw's store, without its claims.

    :param app: the app.
    :param path: the file.
    """

    def __init__(self, app: Any, path: Path) -> None:
        self._app = app
        self._tokens = itertools.count()
        self._store = AsyncSQLiteStore(SQLiteStore(path, bounds=_BOUNDS))

    async def close(self) -> None:
        """Close the store."""
        await self._store.aclose()

    async def _write(self, key: str, expected: str, token: str, entry: bytes, until: float) -> bytes | None:
        lease = _RUNNING if until else 0.0
        held = await self._store.swap(key, expected, token, entry, lease=lease, ttl=_TTL)
        return None if held is None or held.token == token else held.entry


def _deliver(results: list[tuple[_Write, bytes | None]]) -> None:
    for write, held in results:
        write.waiter.set_result(held)
