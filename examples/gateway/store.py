"""Where the gateway's state lives: small records, in one sqlite file or in redis.

A record is a kind, an id and named fields of text. Two stores with the same methods keep it; the one
arithmetic that money needs, `add`, is atomic in both.

    store = await open_store("sqlite:///gateway.db")      # relative; four slashes for an absolute path
    store = await open_store("redis://localhost:6379/0")
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from threading import Lock
from typing import Any, Protocol
from urllib.parse import urlsplit

from anyio import to_thread

__all__ = ["CONNECTIONS", "RedisStore", "SqliteStore", "Store", "StoreError", "open_store", "place_of"]

Record = dict[str, str]

CONNECTIONS = 16
"""Connections of one gateway to redis. A request that finds all of them in use waits for one."""

REDIS_SECONDS = 5.0
"""Longest time for redis to accept a connection, to respond to a command, or for a connection to become free."""

LOCK_SECONDS = 10.0
"""Longest time that a statement waits for a process that has locked the sqlite file."""


class StoreError(Exception):
    """The storage URL cannot be used; the message says why and what would do."""


class Store(Protocol):
    async def read(self, kind: str, id: str) -> Record:
        """The fields of a record; none, where there is no such record."""
        ...

    async def write(self, kind: str, id: str, fields: Record) -> None:
        """Set these fields and leave the others as they are."""
        ...

    async def add(self, kind: str, id: str, amounts: dict[str, int]) -> None:
        """Add to fields that hold whole numbers, all of them or none."""
        ...

    async def delete(self, kind: str, id: str) -> None: ...

    async def ids(self, kind: str) -> list[str]: ...

    async def close(self) -> None: ...


def place_of(url: str) -> str:
    """Where a store is, for people: the whole path of a file, or the URL without its password."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return str(Path(parts.path[1:]).absolute())
    return f"{parts.scheme}://{url.rpartition('@')[2]}" if "@" in url else url


async def open_store(url: str) -> Store:
    """Open the store that `url` names and see that it responds. Raises StoreError."""
    parts = urlsplit(url)
    shown = url if parts.scheme == "sqlite" else place_of(url)
    if parts.scheme == "sqlite" and not parts.netloc and len(parts.path) > 1:
        return SqliteStore(parts.path[1:], shown)
    if parts.scheme in ("redis", "rediss"):
        return await RedisStore.connect(url, shown)
    raise StoreError(
        f"storage {shown}: expected sqlite:///gateway.db, sqlite:////var/gateway.db or redis://host:6379/0"
    )


class SqliteStore:
    """One file. Its statements run in threads: another process may hold the file's lock, and the loop must not wait."""

    def __init__(self, path: str, shown: str) -> None:
        self.turn = Lock()
        try:
            self.db = sqlite3.connect(path, isolation_level=None, timeout=LOCK_SECONDS, check_same_thread=False)
            self.db.execute("PRAGMA journal_mode = WAL")  # readers never wait for the writer
            self.db.execute("PRAGMA synchronous = NORMAL")  # safe in WAL against a killed process
            self.db.execute(
                "CREATE TABLE IF NOT EXISTS record (kind TEXT, id TEXT, field TEXT, value TEXT NOT NULL,"
                " PRIMARY KEY (kind, id, field)) WITHOUT ROWID"
            )
        except sqlite3.Error as exc:
            raise StoreError(f"storage {shown}: {exc}; expected a file that can be written") from exc

    async def read(self, kind: str, id: str) -> Record:
        return dict(await self._rows("SELECT field, value FROM record WHERE kind = ? AND id = ?", kind, id))

    async def write(self, kind: str, id: str, fields: Record) -> None:
        rows = [(kind, id, field, value) for field, value in fields.items()]
        await to_thread.run_sync(self._all_or_none, "INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?)", rows)

    async def add(self, kind: str, id: str, amounts: dict[str, int]) -> None:
        rows = [(kind, id, field, str(amount)) for field, amount in amounts.items()]
        statement = (
            "INSERT INTO record VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET value = CAST(value AS INTEGER) + CAST(excluded.value AS INTEGER)"
        )
        await to_thread.run_sync(self._all_or_none, statement, rows)

    async def delete(self, kind: str, id: str) -> None:
        await self._rows("DELETE FROM record WHERE kind = ? AND id = ?", kind, id)

    async def ids(self, kind: str) -> list[str]:
        return [known for (known,) in await self._rows("SELECT DISTINCT id FROM record WHERE kind = ?", kind)]

    async def close(self) -> None:
        self.db.close()

    async def _rows(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        def run() -> list[tuple[Any, ...]]:
            with self.turn:
                return self.db.execute(statement, values).fetchall()

        return await to_thread.run_sync(run)

    def _all_or_none(self, statement: str, rows: list[tuple[str, str, str, str]]) -> None:
        with self.turn, self.db:  # the connection's block ends in COMMIT or ROLLBACK
            self.db.execute("BEGIN IMMEDIATE")
            self.db.executemany(statement, rows)


class RedisStore:
    """One hash per record, shared by any number of gateways.

    The connections are bounded: redis-py's default pool opens one for each request that is under way, so a burst would
    spend its time on handshakes and run into the timeout of the connections.
    """

    def __init__(self, client: Any) -> None:  # redis-py's own types and its stub package disagree
        self.client = client

    @classmethod
    async def connect(cls, url: str, shown: str) -> RedisStore:
        import redis.asyncio  # here, so that sqlite needs no redis-py

        try:
            pool = redis.asyncio.BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                timeout=REDIS_SECONDS,
                socket_timeout=REDIS_SECONDS,
                socket_connect_timeout=REDIS_SECONDS,
                decode_responses=True,
            )
            client = redis.asyncio.Redis.from_pool(pool)  # aclose() closes the pool too
            await client.ping()
        except (redis.RedisError, OSError, ValueError) as exc:
            raise StoreError(f"storage {shown}: {exc}; expected the URL of a redis server that runs") from exc
        return cls(client)

    async def read(self, kind: str, id: str) -> Record:
        record: Record = await self.client.hgetall(_name(kind, id))
        return record

    async def write(self, kind: str, id: str, fields: Record) -> None:
        await self.client.hset(_name(kind, id), mapping=fields)

    async def add(self, kind: str, id: str, amounts: dict[str, int]) -> None:
        async with self.client.pipeline(transaction=True) as pipe:
            for field, amount in amounts.items():
                pipe.hincrby(_name(kind, id), field, amount)
            await pipe.execute()

    async def delete(self, kind: str, id: str) -> None:
        await self.client.delete(_name(kind, id))

    async def ids(self, kind: str) -> list[str]:
        prefix = _name(kind, "")
        return [name.removeprefix(prefix) async for name in self.client.scan_iter(match=f"{prefix}*")]

    async def close(self) -> None:
        await self.client.aclose()


def _name(kind: str, id: str) -> str:
    return f"gateway:{kind}:{id}"
