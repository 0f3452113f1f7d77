"""The bounds of a SQLite file of idempotency keys: number of keys, bytes, and the pages that nothing uses.

The file has one row with the number of its keys and the bytes of their entries and logs. Triggers keep the row, so it
is exact for all processes that share the file, and a claim reads one row instead of counting the table. Each write
changes the row in its own transaction.

A file that this version creates gives unused pages back to the file system (``auto_vacuum=INCREMENTAL``), a bounded
number with each transaction that claims keys. SQLite can only switch an older file with ``VACUUM``, which copies the
whole file under a lock.
"""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

from flexmw.idempotency.stores import Full

__all__ = ["Bounds", "Room", "prepare", "prepare_new", "shrink", "shrinks"]

_IS_PREPARED: Final = "select 1 from sqlite_master where type = 'table' and name = 'flexmw_size'"
_SCHEMA: Final = """
begin immediate;
create table if not exists flexmw_size (
    id integer primary key check (id = 1), keys integer not null, bytes integer not null
);
insert or ignore into flexmw_size values (
    1, (select count(*) from flexmw_keys),
    (select coalesce(sum(length(entry)), 0) from flexmw_keys)
    + (select coalesce(sum(length(head) + size), 0) from flexmw_logs)
);
create trigger if not exists flexmw_keys_insert_size after insert on flexmw_keys begin
    update flexmw_size set keys = keys + 1, bytes = bytes + length(new.entry);
end;
create trigger if not exists flexmw_keys_update_size after update of entry on flexmw_keys begin
    update flexmw_size set bytes = bytes + length(new.entry) - length(old.entry);
end;
create trigger if not exists flexmw_keys_delete_size after delete on flexmw_keys begin
    update flexmw_size set keys = keys - 1, bytes = bytes - length(old.entry);
end;
create trigger if not exists flexmw_logs_insert_size after insert on flexmw_logs begin
    update flexmw_size set bytes = bytes + length(new.head) + new.size;
end;
create trigger if not exists flexmw_logs_update_size after update of size on flexmw_logs begin
    update flexmw_size set bytes = bytes + new.size - old.size;
end;
create trigger if not exists flexmw_logs_delete_size after delete on flexmw_logs begin
    update flexmw_size set bytes = bytes - length(old.head) - old.size;
end;
commit;
"""

_SIZE: Final = "select keys, bytes from flexmw_size"
_IDLE: Final = """
select key, expires > :now,
    length(entry) + coalesce((select length(head) + size from flexmw_logs where flexmw_logs.key = flexmw_keys.key), 0)
from flexmw_keys where key <> :key
and not (leased_until - :ticks > 0 and leased_until - :ticks <= lease) order by expires limit :most
"""
"""Keys of no running request. An expired key comes first, because its ``expires`` is the smallest."""

_MAX_DELETED: Final = 1000
"""Keys that one write deletes at most. A file with far more keys than its bound shrinks to it over several writes."""

_SPARE_PAGES: Final = 64
_SPARE_PART: Final = 8
"""Unused pages that stay in the file for the next keys: 64, or an eighth of the file if that is more."""

_MAX_RELEASED: Final = 64
"""Pages that one transaction gives back at most. SQLite moves a used page to the place of each."""


class Bounds(NamedTuple):
    """What a file holds at most.

    :param keys: number of keys.
    :param size_bytes: bytes of all entries and logs.
    """

    keys: int
    size_bytes: int


def prepare_new(connection: sqlite3.Connection) -> None:
    """Let a new file give unused pages back. Call it before anything else: it has no effect on a file that has a
    page already, and would wait for the lock of such a file."""
    if connection.execute("pragma page_count").fetchone() == (0,):
        connection.execute("pragma auto_vacuum = incremental")


def prepare(connection: sqlite3.Connection) -> None:
    """Add the row of the size and its triggers to a file that has none. Counts the keys of the file once."""
    if connection.execute(_IS_PREPARED).fetchone() is None:
        connection.executescript(_SCHEMA)


class Room:
    """The room that is left in a file, inside one transaction.

    The size of the file is read with the first write of the transaction. The sizes of its writes are added to it. What
    a write frees is not always subtracted, so the size is read again before a key is deleted.

    :param connection: a connection in a transaction that can write.
    :param bounds: what the file holds at most.
    :param now: the wall clock in seconds.
    :param ticks: the monotonic time in seconds.
    """

    __slots__ = ("_bounds", "_connection", "_is_read", "_keys", "_now", "_size_bytes", "_ticks")

    def __init__(self, connection: sqlite3.Connection, bounds: Bounds, *, now: float, ticks: float) -> None:
        self._connection, self._bounds, self._now, self._ticks = connection, bounds, now, ticks
        self._keys = self._size_bytes = 0
        self._is_read = False

    def read_again(self) -> None:
        """Read the size of the file with the next write: writes of the transaction were undone."""
        self._is_read = False

    def has(self, *, keys: int, size_bytes: int) -> bool:
        """Whether the file has room for claims, whatever they replace.

        :param keys: number of keys that the claims add at most.
        :param size_bytes: number of bytes that they add at most.
        """
        if not self._is_read:
            self._read()
        return self._keys + keys <= self._bounds.keys and self._size_bytes + size_bytes <= self._bounds.size_bytes

    def take(self, *, keys: int, size_bytes: int, is_claim: bool) -> bool:
        """Take room for a write if the file has it. Returns whether it has.

        Call it before the write.

        :param keys: number of keys that the write adds.
        :param size_bytes: number of bytes that the write adds; below 0 if the write frees some.
        :param is_claim: whether the write claims its key. No other write is refused for the number of keys.
        """
        if not self._is_read:
            self._read()
        keys += self._keys
        size_bytes += self._size_bytes
        if (is_claim and keys > self._bounds.keys) or size_bytes > self._bounds.size_bytes:
            return False
        self._keys, self._size_bytes = keys, size_bytes
        return True

    def make(self, key: str, *, keys: int, size_bytes: int, is_claim: bool) -> int:
        """Delete the oldest keys of no running request, and take room for a write; the arguments are those of
        :meth:`take`. Call it when the file holds all earlier writes of the transaction.

        :param key: the key that will be written. It is not deleted.
        :returns: the number of keys that were deleted before they expired.
        :raises Full: when all other keys belong to running requests. Nothing has changed then.
        """
        self._read()
        early = 0
        excess_keys = self._keys + keys - self._bounds.keys if is_claim else 0
        excess_bytes = self._size_bytes + size_bytes - self._bounds.size_bytes
        if excess_keys > 0 or excess_bytes > 0:
            early = self._delete(key, self._keys + keys, excess_keys, excess_bytes)
        self._keys += keys
        self._size_bytes += size_bytes
        return early

    def _read(self) -> None:
        self._keys, self._size_bytes = self._connection.execute(_SIZE).fetchone()
        self._is_read = True

    def _delete(self, key: str, keys: int, excess_keys: int, excess_bytes: int) -> int:
        """Delete keys until nothing is in excess, ``_MAX_DELETED`` at most. Returns how many had not expired.

        :param keys: number of keys in the file, with the one that is to be written.
        """
        deleted: list[tuple[str]] = []
        early = freed_bytes = 0
        rows = self._connection.execute(
            _IDLE, {"key": key, "now": self._now, "ticks": self._ticks, "most": _MAX_DELETED}
        )
        for idle, is_early, idle_bytes in rows:
            deleted.append((idle,))
            early += is_early
            freed_bytes += idle_bytes
            if len(deleted) >= excess_keys and freed_bytes >= excess_bytes:
                break
        else:
            others = keys - len(deleted) - 1
            if len(deleted) < _MAX_DELETED and others > 0:
                raise Full(f"all {others} other keys belong to requests that still run")
        rows.close()
        self._connection.executemany("delete from flexmw_keys where key = ?", deleted)
        self._keys -= len(deleted)
        self._size_bytes -= freed_bytes
        return early


def shrinks(connection: sqlite3.Connection) -> bool:
    """Whether the file can give pages back."""
    mode: int = connection.execute("pragma auto_vacuum").fetchone()[0]
    return mode == 2


def shrink(connection: sqlite3.Connection) -> None:
    """Give back some of the pages that nothing uses, if there are many."""
    (unused,) = connection.execute("pragma freelist_count").fetchone()
    if unused <= _SPARE_PAGES:
        return
    (pages,) = connection.execute("pragma page_count").fetchone()
    spare = max(_SPARE_PAGES, pages // _SPARE_PART)
    if unused > spare:
        for _ in range(min(unused - spare, _MAX_RELEASED)):  # sqlite3 runs the statement up to its first page
            connection.execute("pragma incremental_vacuum(1)")
