"""The operations of a store inside one transaction of a SQLite file.

A transaction carries out the operations of many requests. One statement reads the rows of all keys that will be
swapped, the rows decide each swap, and one statement writes all changed rows. A statement for each step of each
operation took twice the time. Operations on logs, which are rare, have statements of their own.

An operation that is refused (:class:`~flexmw.idempotency.stores.Full`, another token) is refused before its first
write, so the other operations of the transaction are not affected.

Leases are measured by the machine's monotonic clock. All processes of the machine share it and nothing sets it. It
starts again after a reboot; a lease from before the reboot would then end later than its length allows, and counts as
run out. A key expires when the monotonic clock and the wall clock both say so; after a reboot the wall clock decides
alone. A step of the wall clock therefore never deletes a key too early.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

from flexmw.idempotency.stores import Appended, Full, Held, Piece, Swap
from flexmw.idempotency.stores import sqlite_log as log
from flexmw.idempotency.stores import sqlite_size as size
from flexmw.kit.clock import Clock

__all__ = ["Reading", "Writing"]

_SELECT: Final = """
select key, token, entry, leased_until, lease, fresh_until, ttl, expires from flexmw_keys where key = ?
"""
_SELECT_STATE: Final = _SELECT.replace("entry,", "x'',")
"""The same without the entry, which may hold a long response."""

_SELECT_SIZED: Final = _SELECT.replace(
    "expires from",
    "expires, (select length(head) + size from flexmw_logs where flexmw_logs.key = flexmw_keys.key) from",
)
"""The same with the bytes of the log, ``null`` without one."""

_TOGETHER: Final = 32
_SELECT_TOGETHER: Final = _SELECT_SIZED.replace("= ?", f"in ({', '.join('?' * _TOGETHER)})")
"""The same of so many keys. A list of another length would be another statement, which SQLite compiles first."""

_FEW: Final = 3
"""So many keys are read faster one by one."""

_WRITE: Final = """
insert into flexmw_keys values (?, ?, ?, ?, ?, ?, ?, ?) on conflict (key) do update set
    token = excluded.token, entry = excluded.entry, leased_until = excluded.leased_until, lease = excluded.lease,
    fresh_until = excluded.fresh_until, ttl = excluded.ttl, expires = excluded.expires
"""
_DELETE: Final = "delete from flexmw_keys where key = ?"
_EXTEND: Final = """
update flexmw_keys set leased_until = ?, lease = ?, fresh_until = ?, ttl = ?, expires = ? where key = ?
"""
_EARLIEST: Final = "select min(expires) from flexmw_keys"
_SWEEP: Final = """
delete from flexmw_keys where key in (
    select key from flexmw_keys where expires <= :now
    and not (leased_until - :ticks > 0 and leased_until - :ticks <= lease)
    and not (fresh_until - :ticks > 0 and fresh_until - :ticks <= ttl) limit :most
)
"""

_SWEPT: Final = 8
"""How many expired keys a transaction that claims keys deletes at most; and one more for each entry that it writes, so
that it deletes more than it adds."""


_Row: TypeAlias = Sequence[Any]
"""A row of ``flexmw_keys``, column by column. Statements that size a row add the bytes of its log."""


def _held(row: _Row, *, now: float, ticks: float) -> Held | None:
    """What a row holds; ``None`` for a key that has expired.

    :param now: the wall clock in seconds.
    :param ticks: the monotonic time in seconds, read after the row.
    """
    _, token, entry, leased_until, lease, fresh_until, ttl, expires = row[:8]
    left = leased_until - ticks
    alive = 0 < left <= lease
    if expires <= now and not alive and not 0 < fresh_until - ticks <= ttl:
        return None
    return Held(token, entry, left if alive else 0.0)


class Reading:
    """A transaction that reads.

    Each operation reads the clock after its row: another process may write a lease until the first row is read, and a
    lease that is longer than its length allows counts as run out.
    """

    __slots__ = ("_clock", "_connection")

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self._connection, self._clock = connection, clock

    def load(self, key: str) -> Held | None:
        return self._load(_SELECT, key)

    def read(self, key: str, generation: str, start: int, limit: int) -> tuple[Piece | None, bool]:
        """The piece of the log, and whether the file has to be told that a reader has asked."""
        held = self._load(_SELECT_STATE, key)
        if held is None:
            return None, False
        piece, is_noted = log.read(self._connection, key, held, generation, start, limit, self._clock.monotonic())
        return piece, not is_noted

    def keys(self, prefix: str) -> list[str]:
        """The keys that begin with ``prefix``, with those that have expired and are not deleted yet."""
        # As bytes: the functions of SQLite for text end at a zero character.
        statement = "select key from flexmw_keys where substr(cast(key as blob), 1, ?) = ?"
        beginning = prefix.encode()
        return [key for (key,) in self._connection.execute(statement, (len(beginning), beginning))]

    def _load(self, statement: str, key: str) -> Held | None:
        row = self._connection.execute(statement, (key,)).fetchone()
        return None if row is None else _held(row, now=self._clock.now(), ticks=self._clock.monotonic())


class Writing:
    """A transaction that writes. Nobody else writes until its end, so one reading of the clock is enough.

    :param connection: a connection that has begun a transaction with ``begin immediate``.
    :param clock: the time that measures leases and times to live.
    :param bounds: what the file holds at most.
    :param shrinks: whether the file can give unused pages back.
    """

    __slots__ = (
        "_changed",
        "_claims",
        "_connection",
        "_entries",
        "_now",
        "_room",
        "_rows",
        "_shrinks",
        "_ticks",
        "early",
    )

    def __init__(self, connection: sqlite3.Connection, clock: Clock, bounds: size.Bounds, *, shrinks: bool) -> None:
        self._connection, self._shrinks = connection, shrinks
        self._now, self._ticks = clock.now(), clock.monotonic()
        self._room = size.Room(connection, bounds, now=self._now, ticks=self._ticks)
        self._rows: dict[str, _Row | None] = {}
        """Rows of the file that were read ahead, by key; ``None`` where the file has none."""
        self._changed: dict[str, _Row] = {}
        """Rows that are not in the file yet, by key."""
        self._entries = self._claims = 0
        self.early = 0
        """Keys that were deleted before they expired."""

    def read_ahead(self, keys: Sequence[str]) -> None:
        """Read the rows of keys that will be swapped."""
        if len(keys) <= _FEW:
            return
        rows = self._rows = dict.fromkeys(keys)
        padding = [None] * (-len(keys) % _TOGETHER)
        padded = [*keys, *padding]
        for start in range(0, len(padded), _TOGETHER):
            for row in self._connection.execute(_SELECT_TOGETHER, padded[start : start + _TOGETHER]):
                rows[row[0]] = row

    def swap(self, key: str, expected: str, token: str, entry: bytes, lease: float, ttl: float) -> Held | None:
        ticks, now, changed = self._ticks, self._now, self._changed
        row = changed[key] if key in changed else self._row(key)
        held = None if row is None else _held(row, now=now, ticks=ticks)
        if (held.token if held is not None else "") != expected or expected == token:
            return held
        is_claim, keys, size_bytes = not expected, 1, len(entry)
        has_log = False
        if row is not None:
            log_bytes = row[8]
            keys, has_log = 0, log_bytes is not None
            size_bytes -= len(row[2]) + (log_bytes or 0)
        if not self._room.take(keys=keys, size_bytes=size_bytes, is_claim=is_claim):
            self._make_room(key, keys=keys, size_bytes=size_bytes, is_claim=is_claim)
        if has_log:
            self._write_changes()
            self._connection.execute(_DELETE, (key,))  # a trigger deletes the log
        changed[key] = (key, token, entry, ticks + lease, lease, ticks + ttl, ttl, now + ttl, None)
        self._entries += 1
        self._claims += is_claim
        return Held(token, entry, lease)

    def swap_pair(self, first: Swap, second: Swap) -> tuple[Held | None, Held | None]:
        """Carry out ``first``, and ``second`` if the key of ``first`` then holds its token; both or none."""
        most_bytes = len(first.entry) + len(second.entry)
        if self._room.has(keys=2, size_bytes=most_bytes):
            return self._swap_both(first, second)
        self._write_changes()
        self._connection.execute("savepoint pair")
        try:
            pair = self._swap_both(first, second)
            if pair[1] is not None and not self._has(first.key, first.token):
                raise Full("the only other key that does not belong to a running request is written in the same step")
            self._write_changes()
        except Full:
            self._connection.execute("rollback to pair")
            self._connection.execute("release pair")
            self._forget_changes()
            raise
        self._connection.execute("release pair")
        return pair

    def _swap_both(self, first: Swap, second: Swap) -> tuple[Held | None, Held | None]:
        held = self.swap(*first)
        return held, self.swap(*second) if held is not None and held.token == first.token else None

    def extend(self, key: str, token: str, lease: float, ttl: float) -> bool:
        if not self._has(key, token):
            return False
        self._extend(key, lease, ttl)
        return True

    def extend_many(self, leases: Iterable[tuple[str, str, float, float]]) -> list[bool]:
        return [self.extend(key, token, lease, ttl) for key, token, lease, ttl in leases]

    def drop(self, key: str, token: str) -> bool:
        if not self._has(key, token):
            return False
        self._connection.execute(_DELETE, (key,))
        return True

    def append(
        self,
        key: str,
        token: str,
        generation: str,
        at: int,
        data: bytes,
        head: bytes,
        last: bool,
        lease: float,
        ttl: float,
    ) -> Appended | None:
        if not self._has(key, token):
            return None

        def take(size_bytes: int) -> None:
            if not self._room.take(keys=0, size_bytes=size_bytes, is_claim=False):
                self._make_room(key, keys=0, size_bytes=size_bytes, is_claim=False)

        appended = log.append(
            self._connection, key, token, generation, at, data, head=head, last=last, ticks=self._ticks, take=take
        )
        if appended is not None:
            self._extend(key, lease, ttl)
        return appended

    def note_reader(self, key: str) -> None:
        """Write down that a reader has asked for the log of a key."""
        self._write_changes(key)
        log.note_reader(self._connection, key, self._ticks)

    def probe(self) -> None:
        """Change nothing, and fail where the file cannot be written: to begin the transaction does not show that."""
        self._connection.execute(_DELETE, ("",))

    def finish(self) -> None:
        """Write the changed rows, delete some of the expired keys, and give back some of the unused pages: the last
        step before the commit."""
        self._write_changes()
        if not self._claims:
            return
        (earliest,) = self._connection.execute(_EARLIEST).fetchone()  # a quarter of the time of a sweep of nothing
        if earliest is not None and earliest <= self._now:
            most = _SWEPT + self._entries
            self._connection.execute(_SWEEP, {"now": self._now, "ticks": self._ticks, "most": most})
        if self._shrinks:
            size.shrink(self._connection)

    def _row(self, key: str) -> _Row | None:
        """The row of a key in the file, with the bytes of its log."""
        if key in self._rows:
            return self._rows[key]
        row: _Row | None = self._connection.execute(_SELECT_SIZED, (key,)).fetchone()
        return row

    def _write_changes(self, key: str | None = None) -> None:
        """Write the changed rows to the file: before a statement that reads or changes them there.

        :param key: the key whose row the statement changes.
        """
        if self._changed:
            self._connection.executemany(_WRITE, [row[:8] for row in self._changed.values()])
            for changed in self._changed:
                self._rows.pop(changed, None)
            self._changed.clear()
        if key is not None:
            self._rows.pop(key, None)

    def _forget_changes(self) -> None:
        """Forget what was read and what is not written: the file was changed."""
        self._rows.clear()
        self._changed.clear()
        self._room.read_again()

    def _make_room(self, key: str, *, keys: int, size_bytes: int, is_claim: bool) -> None:
        """Delete the oldest keys of no running request; the arguments are those of
        :meth:`~flexmw.idempotency.stores.sqlite_size.Room.make`."""
        self._write_changes()
        self._rows.clear()
        self.early += self._room.make(key, keys=keys, size_bytes=size_bytes, is_claim=is_claim)

    def _has(self, key: str, token: str) -> bool:
        """Whether the file holds ``token`` under a key, for a statement that changes the key."""
        self._write_changes(key)
        row = self._connection.execute(_SELECT_STATE, (key,)).fetchone()
        held = None if row is None else _held(row, now=self._now, ticks=self._ticks)
        return held is not None and held.token == token

    def _extend(self, key: str, lease: float, ttl: float) -> None:
        ticks = self._ticks
        self._connection.execute(_EXTEND, (ticks + lease, lease, ticks + ttl, ttl, self._now + ttl, key))
