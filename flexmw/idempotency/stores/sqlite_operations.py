"""The operations of a SQLite store as values, for a thread that carries out many of them in one transaction.

The arguments are those of :class:`flexmw.idempotency.LogStore`. Each operation has the deadline of the task or thread
that makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from flexmw.idempotency.stores import Appended, Held, Piece, Swap
from flexmw.idempotency.stores.batch_waiters import Operation
from flexmw.idempotency.stores.sqlite_keys import Reading, Writing
from flexmw.kit import time_limit

__all__ = [
    "append",
    "drop",
    "extend",
    "extend_many",
    "keys",
    "load",
    "note_reader",
    "probe",
    "read",
    "swap",
    "swap_pair",
    "swapped_keys",
]

T = TypeVar("T")


def load(key: str) -> Operation[Held | None]:
    return _read(Reading.load, key)


def read(key: str, generation: str, start: int, limit: int) -> Operation[tuple[Piece | None, bool]]:
    """Its value is the piece of the log, and whether :func:`note_reader` is to be carried out."""
    return _read(Reading.read, key, generation, start, limit)


def keys(prefix: str) -> Operation[list[str]]:
    return _read(Reading.keys, prefix)


def swap(key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Operation[Held | None]:
    arguments = (key, expected, token, entry, lease, ttl)
    return Operation(Writing.swap, arguments, ends=time_limit.end(), size_bytes=len(entry))


def swap_pair(first: Swap, second: Swap) -> Operation[tuple[Held | None, Held | None]]:
    return _write(Writing.swap_pair, first, second, size_bytes=len(first.entry) + len(second.entry))


def extend(key: str, token: str, *, lease: float, ttl: float) -> Operation[bool]:
    return _write(Writing.extend, key, token, lease, ttl)


def extend_many(leases: Sequence[tuple[str, str, float, float]]) -> Operation[list[bool]]:
    return _write(Writing.extend_many, leases)


def probe() -> Operation[None]:
    return _write(Writing.probe)


def drop(key: str, token: str) -> Operation[bool]:
    return _write(Writing.drop, key, token)


def append(
    key: str, token: str, generation: str, at: int, data: bytes, *, head: bytes, last: bool, lease: float, ttl: float
) -> Operation[Appended | None]:
    """Not synced: the log of a response belongs to a process that a power cut ends."""
    arguments = (key, token, generation, at, data, head, last, lease, ttl)
    return _write(Writing.append, *arguments, is_durable=False, size_bytes=len(head) + len(data))


def swapped_keys(group: Sequence[Operation[Any]]) -> list[str]:
    """The keys that the operations of a group swap."""
    keys: list[str] = []
    for operation in group:
        if operation.call is Writing.swap:
            keys.append(operation.arguments[0])
        elif operation.call is Writing.swap_pair:
            keys += [swap.key for swap in operation.arguments]
    return keys


def note_reader(key: str) -> Operation[None]:
    return _write(Writing.note_reader, key, is_durable=False)


def _read(call: Callable[..., T], *arguments: Any) -> Operation[T]:
    return Operation(call, arguments, ends=time_limit.end())


def _write(call: Callable[..., T], *arguments: Any, is_durable: bool = True, size_bytes: int = 0) -> Operation[T]:
    return Operation(call, arguments, ends=time_limit.end(), is_durable=is_durable, size_bytes=size_bytes)
