"""The log of a response that is still being made, in a SQLite file.

Each append is a row of its own: to extend one value would copy the log each time. The row of a log names the token
under which the log was begun. A worker of an earlier version changes the token of a key and leaves the log, so the log
counts only while this is the token of the key. Triggers delete the log of a key that is deleted or replaced.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from math import inf
from typing import Final, NamedTuple

from flexmw.idempotency.stores import Appended, Held, Piece

__all__ = ["SCHEMA", "append", "note_reader", "read"]

SCHEMA: Final = """
create table if not exists flexmw_logs (
    key text primary key, token text not null, generation text not null, head blob not null,
    size integer not null, ended integer not null, wanted real
) without rowid;
create table if not exists flexmw_log_parts (
    key text not null, at integer not null, data blob not null, primary key (key, at)
) without rowid;
create trigger if not exists flexmw_keys_delete_log after delete on flexmw_keys begin
    delete from flexmw_logs where key = old.key;
    delete from flexmw_log_parts where key = old.key;
end;
"""

_SELECT: Final = "select token, generation, head, size, ended, wanted from flexmw_logs where key = ?"
_BEGIN: Final = "insert or replace into flexmw_logs values (?, ?, ?, ?, 0, 0, ?)"
_PARTS: Final = """
select at, data from flexmw_log_parts where key = :key and at < :stop
and at >= coalesce((select max(at) from flexmw_log_parts where key = :key and at <= :start), 0) order by at
"""
_NOTE: Final = """
insert into flexmw_logs select key, '', '', x'', 0, 0, :ticks from flexmw_keys where key = :key
on conflict (key) do update set wanted = excluded.wanted
"""

_NOTED_SECONDS: Final = 0.25
"""Seconds after which another question of a reader is written down. A write for each question would hold the file."""


class _Row(NamedTuple):
    token: str
    generation: str
    head: bytes
    size: int
    ended: int
    wanted: float | None


def append(
    connection: sqlite3.Connection,
    key: str,
    token: str,
    generation: str,
    at: int,
    data: bytes,
    *,
    head: bytes,
    last: bool,
    ticks: float,
    take: Callable[[int], object],
) -> Appended | None:
    """Append to the log of a key whose token is ``token``.

    :param ticks: the monotonic time in seconds.
    :param take: called before the first write with the number of bytes that the file grows by.
    """
    row = _row(connection, key)
    has_log = row is not None and (row.token, row.generation) == (token, generation)
    size, ended = (row.size, row.ended) if row is not None and has_log else (0, 0)
    wanted = None if row is None else row.wanted
    if size == at and not ended:
        old_bytes = 0 if has_log or row is None else len(row.head) + row.size
        take(len(data) + (0 if has_log else len(head) - old_bytes))
        if not has_log:
            connection.execute("delete from flexmw_log_parts where key = ?", (key,))
            connection.execute(_BEGIN, (key, token, generation, head, wanted))
        if data:
            connection.execute("insert into flexmw_log_parts values (?, ?, ?)", (key, at, data))
        size += len(data)
        connection.execute("update flexmw_logs set size = ?, ended = ? where key = ?", (size, int(last), key))
    elif not has_log or size != at + len(data) or (last and not ended):
        return None
    return Appended(size, _since(wanted, ticks))


def read(
    connection: sqlite3.Connection, key: str, held: Held, generation: str, start: int, limit: int, ticks: float
) -> tuple[Piece | None, bool]:
    """The piece of the log, and whether it is written down that a reader has asked a short time ago.

    :param held: what the key holds; its entry may be missing.
    :param ticks: the monotonic time in seconds.
    """
    row = _row(connection, key)
    if row is None:
        return None, False
    is_noted = _since(row.wanted, ticks) < _NOTED_SECONDS
    if (row.token, row.generation) != (held.token, generation):
        return None, is_noted
    stop = min(start + limit, row.size)
    parts: list[bytes] = []
    if start < stop:
        for at, part in connection.execute(_PARTS, {"key": key, "start": start, "stop": stop}):
            parts.append(part[max(0, start - at) : stop - at])
    return Piece(row.head, b"".join(parts), row.size, bool(row.ended), held.lease), is_noted


def note_reader(connection: sqlite3.Connection, key: str, ticks: float) -> None:
    """Write down that a reader has asked, if the key is held.

    :param ticks: the monotonic time in seconds.
    """
    connection.execute(_NOTE, {"key": key, "ticks": ticks})


def _row(connection: sqlite3.Connection, key: str) -> _Row | None:
    row = connection.execute(_SELECT, (key,)).fetchone()
    return None if row is None else _Row(*row)


def _since(wanted: float | None, ticks: float) -> float:
    """Seconds since a reader has asked. A time from before a reboot lies in the future, and does not count."""
    return inf if wanted is None or wanted > ticks else ticks - wanted
