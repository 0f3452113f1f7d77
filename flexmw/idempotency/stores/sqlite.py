"""A store in one SQLite file, for all processes of one machine. Its entries survive a kill.

>>> import tempfile, pathlib
>>> with tempfile.TemporaryDirectory() as folder:
...     store = SQLiteStore(pathlib.Path(folder) / "keys.db")
...     held = store.swap("k", "", "mine", b"running", lease=60.0, ttl=86400.0)
...     store.close()
...     (held.token, SQLiteStore(pathlib.Path(folder) / "keys.db").load("k").entry)
('mine', b'running')

The file has a write-ahead log with ``synchronous=FULL``: a write that was reported is there after SIGKILL and after a
power cut.

Leases are measured by the machine's monotonic clock. All processes of the machine share it and nothing sets it. It
starts again after a reboot; a lease from before the reboot would then end later than its length allows, and counts as
run out. A key expires when the monotonic clock and the wall clock both say so; after a reboot the wall clock decides
alone. A step of the wall clock therefore never deletes a key too early.
A file that is removed or replaced while it is in use, by a cleaner of temporary files or a restored backup, would stay
open in each process, and one key would run once in each of them. Every operation therefore compares the file at the
path with the open one, opens the new file, and logs a WARNING.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, Final

from flexmw.errors import ConfigError
from flexmw.idempotency.stores import Appended, Held, Piece, Store, StoreOptions
from flexmw.idempotency.stores import sqlite_log as log
from flexmw.idempotency.stores import sqlite_size as size
from flexmw.idempotency.stores.threads import Threaded
from flexmw.kit import time_limit
from flexmw.kit.clock import SYSTEM, Clock

__all__ = ["SQLiteStore", "from_url", "path_of"]

_LOGGER: Final = logging.getLogger("flexmw.idempotency")

_PAUSE: Final = 0.01
"""Seconds between two attempts to switch a file to its write-ahead log."""

_THREADS: Final = 2
"""A lock orders the operations of one process, so more threads would only wait."""

_NO_BOUNDS: Final = size.Bounds(sys.maxsize, sys.maxsize)

_SCHEMA: Final = """
create table if not exists flexmw_keys (
    key text primary key, token text not null, entry blob not null,
    leased_until real not null, lease real not null,
    fresh_until real not null, ttl real not null, expires real not null
) without rowid;
create index if not exists flexmw_keys_expires on flexmw_keys (expires);
"""
_SELECT: Final = "select token, entry, leased_until, lease, fresh_until, ttl, expires from flexmw_keys where key = ?"
_SELECT_STATE: Final = _SELECT.replace("entry,", "x'',")
"""The same without the entry, which may hold a long response."""

_EXTEND: Final = """
update flexmw_keys set leased_until = ?, lease = ?, fresh_until = ?, ttl = ?, expires = ? where key = ?
"""
_SWEEP: Final = """
delete from flexmw_keys where key in (
    select key from flexmw_keys where expires <= :now
    and not (leased_until - :ticks > 0 and leased_until - :ticks <= lease)
    and not (fresh_until - :ticks > 0 and fresh_until - :ticks <= ttl) limit 8
)
"""


def from_url(url: str, options: StoreOptions) -> Store:
    """The store of ``sqlite:///file``. The file is opened once, now, so that a wrong path is an error at start."""
    path = path_of(url, options.option)
    if options.existing and not path.exists():
        raise ConfigError(options.option, url, f"a file that is there: no process has kept keys in {path}")
    bounds = _NO_BOUNDS if options.existing else size.Bounds(options.capacity, options.max_bytes)
    store = SQLiteStore(path, timeout=options.timeout, bounds=bounds, clock=options.clock)
    store.check(options.option)
    return Threaded(store, threads=_THREADS)


def path_of(url: str, option: str = "storage") -> Path:
    """The file that ``sqlite:///keys.db`` (relative) or ``sqlite:////var/keys.db`` (absolute) names.

    A relative path is resolved against the working directory at the time of the call.

    :raises ConfigError: for a URL that names no file.
    """
    rest = url.partition("://")[2]
    if not rest.startswith("/") or not rest[1:] or rest.endswith("/") or {"\0", "?"} & {*rest}:
        raise ConfigError(
            option, url, "sqlite:///file (relative) or sqlite:////folder/file (absolute), without parameters"
        )
    if rest == "/:memory:":
        raise ConfigError(option, url, "a file, or 'memory://' for keys that live in this process alone")
    return Path(rest[1:]).absolute()


class SQLiteStore:
    """A :class:`~flexmw.idempotency.stores.BlockingStore` in a file.

    Each process has one connection. A lock orders the threads of a process, and SQLite's own locks order processes.

    A full file deletes the oldest keys that do not belong to a running request, before they expire, and logs a WARNING
    the first time.

    :param path: the file. It is created with the first operation.
    :param timeout: seconds that one process waits for another.
    :param bounds: what the file holds at most.
    :param clock: the time that measures leases and times to live.
    :raises Full: from ``swap`` and ``append``, when every key belongs to a running request.
    """

    def __init__(
        self, path: Path, *, timeout: float = 2.0, bounds: size.Bounds = _NO_BOUNDS, clock: Clock = SYSTEM
    ) -> None:
        self.path, self._timeout, self._bounds, self._clock = path, timeout, bounds, clock
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0
        self._is_durable = True
        self._shrinks = self._is_full_known = False
        self._file: tuple[int, int] | None = None

    def check(self, option: str) -> None:
        """Open the file once, now.

        :raises ConfigError: when the file cannot be opened; the message begins with ``option``.
        """
        try:
            self.load("")
        except sqlite3.Error as error:
            problem = f"a file that can be opened and written ({error}): check the folder and its permissions"
            raise ConfigError(option, str(self.path), problem) from error
        self.close()

    def load(self, key: str) -> Held | None:
        with self._transaction("deferred") as connection:
            return self._load(connection, key)

    def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Held | None:
        with self._transaction("immediate") as connection:
            held = self._load(connection, key)
            if (held.token if held else "") == expected and expected != token:
                now = self._clock.now()
                ticks = self._clock.monotonic()
                row = (key, token, entry, ticks + lease, lease, ticks + ttl, ttl, now + ttl)
                connection.execute("insert or replace into flexmw_keys values (?, ?, ?, ?, ?, ?, ?, ?)", row)
                connection.execute(_SWEEP, {"now": now, "ticks": ticks})
                self._make_room(connection, key, is_claim=not expected)
                if self._shrinks and not expected:
                    size.shrink(connection)
                return Held(token, entry, lease)
            return held

    def extend(self, key: str, token: str, *, lease: float, ttl: float) -> bool:
        ticks = self._clock.monotonic()
        row = (ticks + lease, lease, ticks + ttl, ttl, self._clock.now() + ttl, key)
        return self._change(key, token, _EXTEND, row)

    def drop(self, key: str, token: str) -> bool:
        return self._change(key, token, "delete from flexmw_keys where key = ?", (key,))

    def append(
        self,
        key: str,
        token: str,
        generation: str,
        at: int,
        data: bytes,
        *,
        head: bytes = b"",
        last: bool = False,
        lease: float,
        ttl: float,
    ) -> Appended | None:
        with self._transaction("immediate", durable=False) as connection:
            held = self._load(connection, key)
            if held is None or held.token != token:
                return None
            ticks = self._clock.monotonic()
            appended = log.append(connection, key, token, generation, at, data, head=head, last=last, ticks=ticks)
            if appended is not None:
                self._make_room(connection, key, is_claim=False)
                connection.execute(_EXTEND, (ticks + lease, lease, ticks + ttl, ttl, self._clock.now() + ttl, key))
            return appended

    def read(self, key: str, generation: str, start: int, limit: int) -> Piece | None:
        with self._transaction("deferred") as connection:
            held = self._load(connection, key, _SELECT_STATE)
            if held is None:
                return None
            ticks = self._clock.monotonic()
            piece, is_noted = log.read(connection, key, held, generation, start, limit, ticks)
        if not is_noted:
            with self._transaction("immediate", durable=False) as connection:
                log.note_reader(connection, key, ticks)
        return piece

    def scan(self, prefix: str = "") -> Iterator[tuple[str, Held]]:
        with self._transaction("deferred") as connection:
            statement = "select key from flexmw_keys where substr(key, 1, ?) = ?"
            keys = connection.execute(statement, (len(prefix), prefix)).fetchall()
        for (key,) in keys:
            held = self.load(key)
            if held is not None:
                yield key, held

    def close(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None and self._process == os.getpid():
                connection.close()

    def __del__(self) -> None:
        """Close the connection of an app that was run without a lifespan: nothing else closes its store."""
        self.close()

    def _make_room(self, connection: sqlite3.Connection, key: str, *, is_claim: bool) -> None:
        now, ticks = self._clock.now(), self._clock.monotonic()
        early = size.make_room(connection, self._bounds, key, is_claim=is_claim, now=now, ticks=ticks)
        if early and not self._is_full_known:
            self._is_full_known = True
            _LOGGER.warning(
                "Idempotency(storage=...): the file %s is full (%d keys, %d bytes): the oldest responses are deleted "
                "before they expire, and a retry of theirs runs again. Raise capacity or capacity_bytes, or lower ttl. "
                "This is logged once.",
                self.path,
                *self._bounds,
            )

    def _change(self, key: str, token: str, statement: str, row: tuple[Any, ...]) -> bool:
        with self._transaction("immediate") as connection:
            held = self._load(connection, key)
            if held is None or held.token != token:
                return False
            connection.execute(statement, row)
            return True

    def _load(self, connection: sqlite3.Connection, key: str, statement: str = _SELECT) -> Held | None:
        row = connection.execute(statement, (key,)).fetchone()
        if row is None:
            return None
        token, entry, leased_until, lease, fresh_until, ttl, expires = row
        ticks = self._clock.monotonic()
        left = leased_until - ticks
        alive, fresh = 0 < left <= lease, 0 < fresh_until - ticks <= ttl
        if expires <= self._clock.now() and not alive and not fresh:
            return None
        return Held(token, entry, left if alive else 0.0)

    @contextmanager
    def _transaction(self, kind: str, *, durable: bool = True) -> Generator[sqlite3.Connection]:
        """A transaction, for one thread of this process at a time.

        :param kind: how SQLite begins it.
        :param durable: whether a power cut must not undo it. The log of a response belongs to a process that a power
            cut ends, so its writes are not synced.
        """
        if not self._lock.acquire(timeout=max(0.0, min(self._timeout, time_limit.remaining()))):
            raise TimeoutError("other operations of this process hold the file for too long")
        try:
            connection = self._open()
            if durable is not self._is_durable:
                connection.execute(f"pragma synchronous = {'full' if durable else 'normal'}")
                self._is_durable = durable
            connection.execute(f"begin {kind}")
            try:
                if time_limit.remaining() <= 0.0:  # nobody waits for it: the request was told that it was not run
                    raise TimeoutError("the file was locked for too long")
                yield connection
                connection.commit()
            except BaseException:
                try:
                    connection.rollback()
                except sqlite3.Error:  # the connection is broken: the next operation opens another one
                    self._connection = None
                    connection.close()
                raise
        finally:
            self._lock.release()

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and self._process == os.getpid():
            if _file_at(self.path) == self._file:
                return self._connection
            _LOGGER.warning(
                "Idempotency(storage=...): the file %s was removed or replaced while it was in use: its keys are gone, "
                "and the file that is there now is used. Keep the file out of folders that are cleaned.",
                self.path,
            )
            old, self._connection = self._connection, None
            old.close()  # SQLite leaves the files of the new database alone: it sees that the old one has moved
        connection = sqlite3.connect(self.path, timeout=self._timeout, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(size.AUTO_VACUUM)  # the switch to the log writes the first page
            self._to_wal(connection)
            connection.execute("pragma synchronous = full")
            connection.execute("pragma recursive_triggers = on")  # a row that is replaced is deleted first
            connection.executescript(_SCHEMA + log.SCHEMA)
            size.prepare(connection)
            self._shrinks = size.shrinks(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self._process, self._file = connection, os.getpid(), _file_at(self.path)
        self._is_durable = True
        return connection

    def _to_wal(self, connection: sqlite3.Connection) -> None:
        """Switch the file to its write-ahead log.

        Another process may do the same at this moment. SQLite then fails at once, so the loop does the waiting.
        """
        ends = self._clock.monotonic() + self._timeout
        while True:
            try:
                connection.execute("pragma journal_mode = wal")
            except sqlite3.OperationalError:
                if self._clock.monotonic() >= ends:
                    raise
                self._clock.sleep(_PAUSE)
            else:
                return


def _file_at(path: Path) -> tuple[int, int] | None:
    """Device and inode of the file at a path; ``None`` without a file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - Path.stat() adds a frame to every operation
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
