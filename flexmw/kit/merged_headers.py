"""Merge headers into those of a response, whose names may have upper-case letters.

Every response passes here. Nearly all of its names are known from earlier responses, so the names that are known to
collide with nothing are kept in two sets, and :meth:`flexmw.kit.exchange.Exchange.complete` compares with these.

>>> merge([(b"Allow", b"GET")], [(b"allow", b"POST"), (b"x-request-id", b"req_1")])
[(b'Allow', b'GET'), (b'x-request-id', b'req_1')]
"""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from typing import Final, TypeAlias

from flexmw.kit.forked import fork_safe

__all__ = ["ADDED_NAMES", "OTHER_NAMES", "Header", "expect_headers", "merge"]

Header: TypeAlias = tuple[bytes, bytes]
"""Name and value."""

_MAX_NAMES: Final = 1024
"""The most names of each set. Further ones are compared each time."""

_MAX_NAME_BYTES: Final = 64
"""Bytes of the longest name that is remembered."""

ADDED_NAMES: Final[set[bytes]] = set()
"""Names of headers that were merged into responses, in lower case."""

OTHER_NAMES: Final[set[bytes]] = set()
"""Names of headers of responses, as their apps spell them, that are none of :data:`ADDED_NAMES` in any case."""

_lock: Final = fork_safe(Lock())


def expect_headers(*names: bytes) -> bool:
    """Remember the names of headers that a component is going to add to responses.

    :param names: the names in lower case.
    :returns: whether all of them are remembered.
    """
    with _lock:
        _expect(names)
    return ADDED_NAMES.issuperset(names)


def merge(headers: list[Header], added: list[Header]) -> list[Header]:
    """The headers of a response, and the headers of ``added`` whose names it does not have. Remembers the names.

    :param added: headers with names in lower case.
    """
    names = {name: name.lower() for name, _ in headers}
    lower = set(names.values())
    with _lock:
        _expect(name for name, _ in added)
        if len(OTHER_NAMES) + len(names) > _MAX_NAMES:
            OTHER_NAMES.clear()
        OTHER_NAMES.update(
            [spelled for spelled, name in names.items() if name not in ADDED_NAMES and len(name) <= _MAX_NAME_BYTES]
        )
    return [*headers, *(pair for pair in added if pair[0] not in lower)]


def _expect(names: Iterable[bytes]) -> None:
    """:func:`expect_headers`, with the lock."""
    for name in names:
        if name not in ADDED_NAMES and len(name) <= _MAX_NAME_BYTES and len(ADDED_NAMES) < _MAX_NAMES:
            # In this order: a name that is in both sets would be added to a response that has it.
            OTHER_NAMES.difference_update([other for other in OTHER_NAMES if other.lower() == name])
            ADDED_NAMES.add(name)
