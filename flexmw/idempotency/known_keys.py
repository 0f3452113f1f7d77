"""Find keys in a store: list them, and complete the beginning of an id. :mod:`flexmw.idempotency.admin` changes them.

>>> import anyio
>>> from flexmw.idempotency import open_store
>>> anyio.run(list_keys, open_store("memory://"))
[]
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from flexmw.errors import ConfigError
from flexmw.idempotency.core import Record, lapse
from flexmw.idempotency.hashing import KeyHasher
from flexmw.idempotency.stores import Held, Store
from flexmw.idempotency.stores.open import open_store

__all__ = ["PREFIX", "KeyState", "KnownKey", "full_id", "known_key", "list_keys", "opened", "record_of", "short_ids"]

PREFIX: Final = "flexmw:idempotency"
"""The beginning of all store keys, unless ``Idempotency(prefix=...)`` sets another."""

KeyState: TypeAlias = Literal["running", "done", "unknown", "open"]
_STATES: Final = ("running", "done", "unknown", "open")
_LOGGER: Final = logging.getLogger("flexmw.idempotency")
_SHORT_DIGITS: Final = 12
"""Hexadecimal digits of a hash that stand for a key without a label."""

_SHORTEST_ID: Final = 4
_MAX_NAMED: Final = 5
"""Ids that a message names at most."""

_EARLIER: Final = b'{"v":1,'
"""The beginning of the records of earlier versions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKey:
    """One key.

    :param id: the store key.
    :param key: the key as the caller wrote it, where ``labels`` has kept it, else ``#`` and the beginning of its hash;
        the id of an SDK call without a key.
    :param state: the state; see :mod:`flexmw.idempotency.core`.
    :param what: method and path, where ``labels`` has kept them, else empty.
    :param at: Unix time of the last claim in seconds.
    :param attempt: number of claims so far.
    :param steps: names of the recorded steps.
    :param status: the HTTP status of the stored response; ``None`` without one.
    """

    id: str
    key: str
    state: KeyState
    what: str
    at: float
    attempt: int
    steps: tuple[str, ...] = ()
    status: int | None = None


async def list_keys(
    storage: str | Store,
    *,
    states: Collection[KeyState] = ("running", "unknown"),
    key: str | None = None,
    prefix: str = PREFIX,
    limit: int = 1000,
    pepper: str | bytes | None = None,
) -> list[KnownKey]:
    """The keys in a store, oldest claim first.

    Keys that an earlier version of flexmw has stored are not listed: no request meets them any more, and they expire.
    A WARNING of the logger ``flexmw.idempotency`` counts them.

    :param storage: a storage URL or a store.
    :param states: the states of the keys to return.
    :param key: return only this key of any caller: as callers wrote it, or as an earlier call has returned it in
        :attr:`KnownKey.key`; ``None``: all. With ``*`` at its end, every key that is returned with this beginning;
        a key of which the store holds only a hash is not returned with its text.
    :param prefix: the ``prefix`` of the app's Idempotency.
    :param limit: number of keys that are returned at most.
    :param pepper: the ``pepper`` of the app's Idempotency, to find ``key`` by; ``None`` takes ``FLEXMW_PEPPER`` from
        the environment.
    :raises ConfigError: for a URL or a state that is not valid.
    """
    if wrong := [state for state in states if state not in _STATES]:
        raise ConfigError("states", wrong[0], f"one of {', '.join(_STATES)}")
    keys: list[KnownKey] = []
    digest = None if key is None else KeyHasher(pepper).of_key(key)
    is_beginning, start = (key or "").endswith("*"), (key or "")[:-1]
    earlier = 0
    async with opened(storage) as store:
        async for name, held in store.scan(f"{prefix}:"):
            record = record_of(held)
            if record is None:
                earlier += held.entry.startswith(_EARLIER)
            elif record.phase in states:
                known = known_key(name, record)
                if (
                    key in (None, known.key)
                    or digest == _digest(name)
                    or (is_beginning and known.key.startswith(start))
                ):
                    keys.append(known)
    if earlier:
        _LOGGER.warning(
            "Keys of an earlier version of flexmw are not listed (%d): no request can use them any more, and they "
            "expire by their ttl.",
            earlier,
        )
    return sorted(keys, key=lambda known: known.at)[:limit]


def short_ids(keys: Collection[KnownKey]) -> dict[str, str]:
    """For the id of each key, a short one that :func:`full_id` finds: the beginning of the id's last part. Callers that
    use the same key share that part, so their keys keep the whole id."""
    short = {known.id: _last_part(known.id)[:_SHORT_DIGITS] for known in keys}
    counts = Counter(short.values())
    return {whole: text if counts[text] == 1 else whole for whole, text in short.items()}


async def full_id(storage: str | Store, id: str, *, prefix: str = PREFIX) -> str:
    """The whole id of a key.

    :param storage: a storage URL or a store.
    :param id: the id, or four or more characters with which it or its last part begins; a ``#`` in front is ignored.
    :param prefix: the ``prefix`` of the app's Idempotency.
    :raises ConfigError: when no key of the store or several keys have an id that begins so.
    """
    async with opened(storage) as store:
        if await store.load(id) is not None:
            return id
        start = id.removeprefix("#")
        if len(start) < _SHORTEST_ID:
            raise ConfigError("id", id, f"the id of a key, or at least {_SHORTEST_ID} characters of its beginning")
        found = [
            name
            async for name, held in store.scan(f"{prefix}:")
            if (name.startswith(start) or _last_part(name).startswith(start)) and record_of(held) is not None
        ]
    if len(found) > 1:
        raise ConfigError("id", id, f"one key; {len(found)} begin so: {', '.join(sorted(found)[:_MAX_NAMED])}")
    if not found:
        raise ConfigError("id", id, "the id of a key in this store, as listed, or its beginning")
    return found[0]


@asynccontextmanager
async def opened(storage: str | Store) -> AsyncGenerator[Store]:
    """The store of a URL, which is closed at the end; a store object is left open."""
    # The bounds are those of the app: a program of its operator deletes nothing.
    store = open_store(storage, capacity=sys.maxsize, max_bytes=sys.maxsize)
    try:
        yield store
    finally:
        if store is not storage:
            await store.aclose()


def record_of(held: Held) -> Record | None:
    """The record in an entry; ``None`` for a list of SDK calls, which the store holds too."""
    try:
        record = Record.decode(held.entry)
    except ValueError:
        return None
    return lapse(record) if record.phase == "running" and held.lease <= 0 else record


def _last_part(name: str) -> str:
    return name.rpartition(":")[2]


def _digest(name: str) -> str:
    """The hash in the name of a key; empty for the name of an SDK call."""
    rest, _, digest = name.rpartition(":")
    return digest if rest.endswith(":k") else ""


def known_key(name: str, record: Record) -> KnownKey:
    """A key as operators see it.

    :param name: the store key.
    """
    return KnownKey(
        id=name,
        key=record.key or f"#{_digest(name)[:_SHORT_DIGITS]}",
        state=record.phase,
        what=record.what,
        at=record.at,
        attempt=record.attempt,
        steps=tuple(record.steps),
        status=None if record.response is None else record.response.status,
    )
