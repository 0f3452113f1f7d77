"""A store in one SQLite file, for all processes of one machine. Its entries survive a kill.

>>> import tempfile, pathlib
>>> with tempfile.TemporaryDirectory() as folder:
...     store = SQLiteStore(pathlib.Path(folder) / "keys.db")
...     held = store.swap("k", "", "mine", b"running", lease=60.0, ttl=86400.0)
...     store.close()
...     (held.token, SQLiteStore(pathlib.Path(folder) / "keys.db").load("k").entry)
('mine', b'running')

The file has a write-ahead log with ``synchronous=FULL``: a write that was reported is there after SIGKILL and after a
power cut. :meth:`SQLiteStore.write_all` carries out many operations in one transaction, with one sync of the disk
(group commit), and reports each of them after the commit.
"""

from __future__ import annotations

import copy
import logging
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Final, TypeVar

from flexmw.errors import ConfigError
from flexmw.idempotency.stores import Appended, Full, Held, Piece, Swap
from flexmw.idempotency.stores import sqlite_operations as operations
from flexmw.idempotency.stores import sqlite_size as size
from flexmw.idempotency.stores.batch_thread import CarryOut
from flexmw.idempotency.stores.batch_waiters import Operation, Outcome
from flexmw.idempotency.stores.sqlite_file import File, Identity
from flexmw.idempotency.stores.sqlite_keys import Reading, Writing
from flexmw.idempotency.stores.sqlite_problems import check_owner, expected_of
from flexmw.kit.clock import SYSTEM, Clock

__all__ = ["NO_BOUNDS", "SQLiteStore"]

T = TypeVar("T")

_LOGGER: Final = logging.getLogger("flexmw.idempotency")

NO_BOUNDS: Final = size.Bounds(sys.maxsize, sys.maxsize)

_UNKNOWN: Final = "the commit failed, and whether the file holds what was written is unknown"


class SQLiteStore:
    """A :class:`~flexmw.idempotency.stores.BlockingStore` in a file, which offers logs.

    Each process has two connections: one writes, and the other one reads. Locks order the threads of a process, and
    SQLite's own locks order processes.

    A full file deletes the oldest keys that do not belong to a running request, before they expire, and logs a WARNING
    the first time.

    :param path: the file. It is created with the first operation.
    :param timeout: seconds that one process waits for another.
    :param bounds: what the file holds at most.
    :param clock: the time that measures leases and times to live.
    :raises Full: from ``swap`` and ``append``, when every key belongs to a running request.
    """

    def __init__(
        self, path: Path, *, timeout: float = 2.0, bounds: size.Bounds = NO_BOUNDS, clock: Clock = SYSTEM
    ) -> None:
        self.path, self._bounds, self._clock = path, bounds, clock
        self._is_full_known = False
        self._replaced_by: Identity | None = None
        options: dict[str, Any] = {"timeout": timeout, "clock": clock, "replaced": self._log_replaced}
        options["side_removed"] = self._close_after_removal
        self.reader = File(path, writes=False, **options)
        self.writer = File(path, writes=True, **options)

    def store_time(self) -> float:
        """The monotonic time of the machine. It begins anew with a reboot."""
        return self._clock.monotonic()

    def check(self, option: str) -> None:
        """Open the file once, now, for reading and for writing.

        :raises ConfigError: when the file cannot be opened or written, or is the database of another program; the
            message begins with ``option``.
        """
        check_owner(self.path, option)
        is_new = not self.path.exists()
        try:
            self.load("")
            _one(self.write_all, operations.probe())
        except sqlite3.Error as error:
            raise ConfigError(option, str(self.path), expected_of(error)) from error
        if is_new:
            _LOGGER.info("%s: the keys are kept in a new file, %s", option, self.path)
        self.close()

    def load(self, key: str) -> Held | None:
        return _one(self.read_all, operations.load(key))

    def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Held | None:
        return _one(self.write_all, operations.swap(key, expected, token, entry, lease=lease, ttl=ttl))

    def swap_pair(self, first: Swap, second: Swap) -> tuple[Held | None, Held | None]:
        return _one(self.write_all, operations.swap_pair(first, second))

    def extend(self, key: str, token: str, *, lease: float, ttl: float) -> bool:
        return _one(self.write_all, operations.extend(key, token, lease=lease, ttl=ttl))

    def extend_many(self, leases: Sequence[tuple[str, str, float, float]]) -> Sequence[bool]:
        """Renew leases in one transaction, and return for each what ``extend`` returns.

        :param leases: key, token, seconds of the lease and seconds to live of each.
        """
        return _one(self.write_all, operations.extend_many(leases))

    def drop(self, key: str, token: str) -> bool:
        return _one(self.write_all, operations.drop(key, token))

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
        append = operations.append(key, token, generation, at, data, head=head, last=last, lease=lease, ttl=ttl)
        return _one(self.write_all, append)

    def read(self, key: str, generation: str, start: int, limit: int) -> Piece | None:
        piece, is_new_reader = _one(self.read_all, operations.read(key, generation, start, limit))
        if is_new_reader:
            _one(self.write_all, operations.note_reader(key))
        return piece

    def scan(self, prefix: str = "") -> Iterator[tuple[str, Held]]:
        for key in _one(self.read_all, operations.keys(prefix)):
            held = self.load(key)
            if held is not None:
                yield key, held

    def close(self) -> None:
        self.reader.close()
        self.writer.close()

    def __del__(self) -> None:
        """Close the connections of an app that was run without a lifespan: nothing else closes its store."""
        self.close()

    def read_all(self, group: Sequence[Operation[Any]]) -> list[Outcome]:
        """Carry out operations that read, on one state of the file."""
        try:
            with self.reader.reading(_latest_end(group)) as connection:
                reading = Reading(connection, self._clock)
                return [_read(operation, reading) for operation in group]
        except Exception as error:
            return [_failed(error) for _ in group]

    def write_all(self, group: Sequence[Operation[Any]]) -> list[Outcome]:
        """Carry out writing operations in one transaction, and report their outcomes after its commit.

        An operation that is refused is refused alone. If another error ends the transaction before its commit, each
        half of the operations runs in a transaction of its own, down to the faulty operation. So a value that SQLite
        cannot hold fails no other operation, and a group of 256 does not become 256 transactions. Where the commit
        fails, all of them fail, and whether the file holds them is unknown. On a full disk, the transaction is tried
        once more if the write-ahead log could be emptied.
        """
        return self._write(group, is_first=True)

    def _write(self, group: Sequence[Operation[Any]], *, is_first: bool) -> list[Outcome]:
        outcomes: list[Outcome] = []
        is_begun = is_complete = False
        try:
            is_durable = any(operation.is_durable for operation in group)
            with self.writer.writing(partial(_latest_end, group), is_durable=is_durable) as connection:
                writing = Writing(connection, self._clock, self._bounds, shrinks=self.writer.shrinks)
                is_begun = True
                if len(group) > 1:
                    writing.read_ahead(operations.swapped_keys(group))
                now = time.monotonic()
                outcomes.extend([_written(operation, writing, now) for operation in group])
                writing.finish()
                is_complete = True
                connection.commit()
        except Exception as error:
            if is_first and is_begun and _is_disk_full(error) and self.writer.make_room():
                return self._write(group, is_first=False)
            if is_begun and len(group) > 1 and (not is_complete or _is_disk_full(error)):
                middle = len(group) // 2
                halves = group[:middle], group[middle:]
                return [outcome for half in halves for outcome in self._write(half, is_first=False)]
            if is_complete and not _is_disk_full(error):
                error = type(error)(f"{_UNKNOWN}: {error}")
            outcomes += [Outcome(None, None)] * (len(group) - len(outcomes))
            return [_failed(error) if outcome.error is None else outcome for outcome in outcomes]
        if writing.early and not self._is_full_known:
            self._log_full()
        return outcomes

    def _log_full(self) -> None:
        self._is_full_known = True
        _LOGGER.warning(
            "Idempotency(storage=...): the file %s is full (%d keys, %d bytes): the oldest responses are deleted "
            "before they expire, and a retry of theirs runs again. Raise capacity or capacity_bytes, or lower ttl. "
            "This is logged once.",
            self.path,
            *self._bounds,
        )

    def _log_replaced(self, identity: Identity | None) -> None:
        """Log that another file is at the path; once for both connections."""
        if identity is not None and identity == self._replaced_by:
            return
        self._replaced_by = identity
        _LOGGER.warning(
            "Idempotency(storage=...): the file %s was removed or replaced while it was in use: its keys are gone, "
            "and the file that is there now is used. Keep the file out of folders that are cleaned.",
            self.path,
        )

    def _close_after_removal(self, path: str) -> None:
        """Close the connection that reads: the one that writes has found a file beside the store's own removed."""
        _LOGGER.warning(
            "Idempotency(storage=...): the file %s was removed while it was in use: the keys that it alone held are "
            "gone. Remove no -wal and no -shm while an app runs.",
            path,
        )
        self.reader.close()


def _one(carry_out: CarryOut, operation: Operation[T]) -> T:
    (outcome,) = carry_out([operation])
    if outcome.error is not None:
        raise outcome.error
    value: T = outcome.value
    return value


def _latest_end(group: Sequence[Operation[Any]]) -> float:
    """The time after which nobody waits for any of the operations."""
    return max([operation.ends for operation in group if not operation.is_abandoned], default=-inf)


def _read(operation: Operation[Any], reading: Reading) -> Outcome:
    if operation.ends <= time.monotonic() or operation.is_abandoned:
        return _too_late()
    try:
        return Outcome(operation.call(reading, *operation.arguments), None)
    except Exception as error:
        return Outcome(None, error)


def _written(operation: Operation[Any], writing: Writing, now: float) -> Outcome:
    """:param now: the time in seconds, by :func:`time.monotonic`."""
    if operation.ends <= now or operation.is_abandoned:
        return _too_late()
    try:
        return Outcome(operation.call(writing, *operation.arguments), None)
    except Full as error:
        return Outcome(None, error)


def _too_late() -> Outcome:
    """Nobody waits for the operation any more, and its request was told that it was not run."""
    return Outcome(None, TimeoutError("the file was locked for too long"))


def _failed(error: Exception) -> Outcome:
    """An exception of its own for each task, because each adds its traceback."""
    return Outcome(None, copy.copy(error))


def _is_disk_full(error: Exception) -> bool:
    """Whether SQLite had no space for all pages of a transaction. The last one, which completes it, is not written."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
