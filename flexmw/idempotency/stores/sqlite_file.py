"""One connection to a SQLite file: opening, transactions, and the turns of several processes.

A process has two connections: one writes, and the other one reads at the same time. SQLite's write-ahead log lets both
work at the same time.

A file that is removed or replaced while it is in use, by a cleaner of temporary files or a restored backup, would stay
open in each process, and one key would run once in each of them. Every transaction therefore compares the file at the
path with the open one, and opens the new file. A transaction that writes compares the files ``-wal`` and ``-shm`` too:
without the locks in ``-shm`` two processes write at once, and both take the same key.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from random import uniform
from threading import Lock
from typing import Final, TypeAlias
from weakref import WeakSet

from flexmw.idempotency.stores import sqlite_log as log
from flexmw.idempotency.stores import sqlite_size as size
from flexmw.kit.clock import Clock
from flexmw.kit.forked import fork_safe, prepare_forks

__all__ = ["File", "Identity"]

_PAUSE: Final = 0.01
"""Seconds between two attempts to switch a file to its write-ahead log."""

_FIRST_POLL: Final = 0.0004
_LONGEST_POLL: Final = 0.005
_POLL_GROWTH: Final = 1.05
"""Seconds between two attempts to write while another process writes. SQLite's own pauses grow to 0.1 s: a process that
pauses for so long never meets the moment between two transactions of a busy one."""

_TURN: Final = 0.001
"""Seconds for which a process leaves the file to the others after a transaction, while others write too: longer than
the first pauses between two attempts of a process that waits."""

_SHARED_SECONDS: Final = 1.0
"""Seconds after the last sign of another writer for which a file counts as shared."""

_CHECKPOINT_PAGES: Final = 4000
"""Pages of the write-ahead log after which a commit copies them back to the file: 16 MB. The commit then syncs the disk
three times more. With the 1,000 pages of SQLite's default that was one sync in eight of a busy file."""

_PAGE_BYTES: Final = 4096
_LOG_PART: Final = 8
_LEAST_CHECKPOINT_PAGES: Final = 32
"""On a small disk the log takes an eighth of the free space. A log that has filled the disk leaves no room for the copy
in the file, so nothing could be deleted either."""

_EMPTY_SECONDS: Final = 0.25
"""Shortest time between two attempts to empty the log on a full disk."""

_SCHEMA: Final = """
create table if not exists flexmw_keys (
    key text primary key not null, token text not null, entry blob not null,
    leased_until real not null, lease real not null,
    fresh_until real not null, ttl real not null, expires real not null
);
create index if not exists flexmw_keys_expires on flexmw_keys (expires);
"""
"""Rows are stored in the order of their claims, so the rows of a group share pages. Files of earlier versions have
``without rowid``: rows in the order of their keys, which are hashes, so each row of a group has a page of its own to
write to the log, and to copy back from it. All statements work with both."""

Identity: TypeAlias = tuple[int, int]
"""Device and inode of a file."""

_SIDES: Final = ("-wal", "-shm")
"""The ends of the names of the write-ahead log and of its shared index."""

_files: Final[WeakSet[File]] = WeakSet()
"""The files of this process. SQLite gives all connections of a process to one file the same ``-shm``, whether it was
removed or not, so the idle ones are closed then."""

_files_lock: Final = fork_safe(Lock())

_inherited: Final[list[sqlite3.Connection]] = []
"""Connections of the parent process that were in a transaction when it forked. A rollback in the child would change the
shared index of the write-ahead log under the transaction of the parent."""

_FORK_SECONDS: Final = 1.0
"""Seconds that a fork waits for a transaction at most."""


class File:
    """One connection to a SQLite file. A lock orders the threads that use the connection.

    :param path: the file. It is created with the first transaction.
    :param timeout: seconds that one process waits for another.
    :param writes: whether the transactions of this connection write.
    :param clock: the time of the attempts to open the file.
    :param replaced: called when the file at the path is not the one that was open, with the new one.
    :param side_removed: called when the write-ahead log or its index is not the one that was open, with its path. It
        closes the other connections of the process, which would share the old index with the next one.
    """

    def __init__(
        self,
        path: Path,
        *,
        timeout: float,
        writes: bool,
        clock: Clock,
        replaced: Callable[[Identity | None], object],
        side_removed: Callable[[str], object],
    ) -> None:
        self.path, self._timeout, self._writes, self._clock, self._replaced = path, timeout, writes, clock, replaced
        self._side_removed = side_removed
        self._side_paths = [f"{path}{end}" for end in _SIDES] if writes else []
        self._sides: list[Identity | None] = []
        self.connection: sqlite3.Connection | None = None
        self.shrinks = False
        """Whether the file can give unused pages back."""
        self._identity: Identity | None = None
        self._is_durable = True
        self._version = 0
        self._shared_until = self._turn_until = self._emptied_at = 0.0
        self._is_disk_full = False
        self._lock = Lock()
        self._is_held_for_fork = False
        prepare_forks(self)
        with _files_lock:
            _files.add(self)

    def before_fork(self) -> None:
        self._is_held_for_fork = self._lock.acquire(timeout=_FORK_SECONDS)

    def after_fork(self, *, is_child: bool) -> None:
        """Close the connection in the child, which then opens its own.

        SQLite keeps the locks of a process in its memory. With a connection of its parent, a child would take the locks
        of the parent for its own.
        """
        if not is_child:
            if self._is_held_for_fork:
                self._lock.release()
            return
        self._lock = Lock()
        connection, self.connection = self.connection, None
        if connection is not None:
            try:
                is_idle = not connection.in_transaction
            except sqlite3.Error:
                is_idle = True
            if is_idle and self._is_held_for_fork:
                connection.close()
            else:
                _inherited.append(connection)

    def close(self) -> None:
        """Close the connection, after the transaction that uses it. The next transaction opens another one."""
        with self._lock:
            connection, self.connection = self.connection, None
            if connection is not None:
                connection.close()

    def _close_if_idle(self) -> None:
        """Close the connection, unless a transaction uses it: that one's next write closes it."""
        if self._lock.acquire(blocking=False):
            try:
                connection, self.connection = self.connection, None
                if connection is not None:
                    connection.close()
            finally:
                self._lock.release()

    def _close_others(self) -> None:
        """Close the idle connections of this process to the same file."""
        identity = _identity_of(self.path)
        with _files_lock:
            others = [file for file in _files if file is not self and file._identity == identity]
        for other in others:
            other._close_if_idle()

    @contextmanager
    def reading(self, ends: float) -> Generator[sqlite3.Connection]:
        """A transaction that reads one state of the file.

        :param ends: the time after which nobody waits for it, by :func:`time.monotonic`.
        """
        with self._held(ends):
            connection = self._open(ends)
            with self._ended(connection):
                connection.execute("begin deferred")
                yield connection
                connection.commit()

    @contextmanager
    def writing(self, ends: Callable[[], float], *, is_durable: bool) -> Generator[sqlite3.Connection]:
        """A transaction that writes. The caller commits it; without a commit it is rolled back.

        :param ends: returns the time after which nobody waits for it, by :func:`time.monotonic`. Called again while the
            file is locked, because tasks that wait can leave.
        :param is_durable: whether a power cut must not undo it.
        """
        first_end = ends()
        with self._held(first_end):
            connection = self._open(first_end)
            with self._ended(connection):
                if is_durable is not self._is_durable:
                    connection.execute(f"pragma synchronous = {'full' if is_durable else 'normal'}")
                    self._is_durable = is_durable
                if self._is_disk_full:
                    self._empty_log(connection)
                self._begin(connection, ends)
                yield connection
            now = time.monotonic()
            self._turn_until = now + _TURN if now < self._shared_until else 0.0

    def make_room(self) -> bool:
        """Make room on a full disk, now and before later transactions. Returns whether the next one may have room."""
        with self._held(time.monotonic() + self._timeout):
            self._is_disk_full = True
            return self.connection is not None and self._empty_log(self.connection)

    def _empty_log(self, connection: sqlite3.Connection) -> bool:
        """Copy the write-ahead log to the file, whose own pages need no room, and cut the log off.

        Space that becomes free is for this copy first. Later pages of the log would take it, and the log would fill the
        disk for ever.
        """
        now = time.monotonic()
        if now < self._emptied_at + _EMPTY_SECONDS:
            return False
        self._emptied_at = now
        try:
            (is_busy, *_) = connection.execute("pragma wal_checkpoint(truncate)").fetchone()
            connection.execute(f"pragma wal_autocheckpoint = {_checkpoint_pages(self.path)}")
        except sqlite3.Error:  # pages of the log are new to the file, which cannot grow yet
            return False
        self._is_disk_full = bool(is_busy)
        return not is_busy

    @contextmanager
    def _held(self, ends: float) -> Generator[None]:
        """Hold the connection for one thread."""
        lock = self._lock
        if not lock.acquire(timeout=max(0.0, min(self._timeout, ends - time.monotonic()))):
            raise TimeoutError("other operations of this process hold the file for too long")
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _ended(self, connection: sqlite3.Connection) -> Generator[None]:
        """Roll back a transaction that was not committed."""
        try:
            yield
        finally:
            try:
                if connection.in_transaction:
                    connection.rollback()
            except sqlite3.Error:  # the connection is broken: the next transaction opens another one
                self.connection = None
                connection.close()

    def _begin(self, connection: sqlite3.Connection, ends: Callable[[], float]) -> None:
        """Begin a transaction that can write, in turns with other processes.

        :raises sqlite3.OperationalError: when the file is locked until ``ends()``, or for ``timeout`` seconds.
        """
        pause, now = _FIRST_POLL, time.monotonic()
        last = now + self._timeout
        if now < self._turn_until:
            time.sleep(min(self._turn_until - now, _TURN))
        while True:
            try:
                connection.execute("begin immediate")
                break
            except sqlite3.OperationalError as error:
                now = time.monotonic()
                left = min(ends(), last) - now
                if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY or left <= 0.0:
                    raise
                self._shared_until = now + _SHARED_SECONDS
                time.sleep(min(pause * uniform(0.5, 1.0), left))  # noqa: S311 - keeps processes out of step
                pause = min(pause * _POLL_GROWTH, _LONGEST_POLL)
        (version,) = connection.execute("pragma data_version").fetchone()
        if version != self._version:  # another connection has written
            self._version, self._shared_until = version, time.monotonic() + _SHARED_SECONDS

    def _open(self, ends: float) -> sqlite3.Connection:
        if self.connection is not None:
            identity = _identity_of(self.path)
            if identity != self._identity:
                self._replaced(identity)
            elif (removed := self._removed_side()) is None:
                return self.connection
            else:
                self._side_removed(removed)
                self._close_others()
            old, self.connection = self.connection, None
            old.close()  # SQLite leaves the files of the new database alone: it sees that the old one has moved
        timeout = max(0.0, min(self._timeout, ends - time.monotonic()))
        connection = sqlite3.connect(self.path, timeout=timeout, isolation_level=None, check_same_thread=False)
        try:
            size.prepare_new(connection)  # the switch to the log writes the first page
            self._to_wal(connection, timeout)
            connection.execute("pragma synchronous = full")
            connection.execute(f"pragma wal_autocheckpoint = {_checkpoint_pages(self.path)}")
            connection.execute("pragma recursive_triggers = on")  # a log that is replaced is deleted first
            connection.executescript(_SCHEMA + log.SCHEMA)
            size.prepare(connection)
            self.shrinks = size.shrinks(connection)
            (self._version,) = connection.execute("pragma data_version").fetchone()
            timeout_ms = 0 if self._writes else int(self._timeout * 1000)  # :meth:`_begin` waits for other writers
            connection.execute(f"pragma busy_timeout = {timeout_ms}")
            self._sides = [_identity_of(side) for side in self._side_paths]
            if any(self._sides) and None in self._sides:  # a file system without shared memory has neither of them
                self._close_others()  # for the next attempt
                raise sqlite3.OperationalError("another store of this process still uses a -shm that was removed")
        except BaseException:
            connection.close()
            raise
        self.connection, self._identity, self._is_durable = connection, _identity_of(self.path), True
        return connection

    def _removed_side(self) -> str | None:
        """The path of a file beside the open one that is not the one that was open."""
        for path, identity in zip(self._side_paths, self._sides, strict=True):
            if _identity_of(path) != identity:
                return path
        return None

    def _to_wal(self, connection: sqlite3.Connection, timeout: float) -> None:
        """Switch the file to its write-ahead log.

        Another process may do the same at this moment. SQLite then fails at once, so the loop does the waiting.
        """
        ends = self._clock.monotonic() + timeout
        while True:
            try:
                connection.execute("pragma journal_mode = wal")
            except sqlite3.OperationalError:
                if self._clock.monotonic() >= ends:
                    raise
                self._clock.sleep(_PAUSE)
            else:
                return


def _checkpoint_pages(path: Path) -> int:
    """After how many pages a commit empties the write-ahead log."""
    free_pages = shutil.disk_usage(path.parent).free // _PAGE_BYTES
    return min(_CHECKPOINT_PAGES, max(_LEAST_CHECKPOINT_PAGES, free_pages // _LOG_PART))


def _identity_of(path: Path | str) -> Identity | None:
    """Device and inode of the file at a path; ``None`` without a file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - Path.stat() adds a frame to every transaction
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
