"""List the keys in a store, resolve those whose outcome is unknown, and stop running ones. For operators and apps.

>>> import anyio
>>> from flexmw.idempotency import open_store
>>> async def tidy(storage) -> int:
...     unknown = await list_keys(storage, states=("unknown",))
...     for known in unknown:
...         await resolve(storage, known.id, "run")                # checked: it did not take effect
...     return len(unknown)
>>> anyio.run(tidy, open_store("memory://"))
0

The store holds hashes of keys and paths. A key is found by the text that the caller wrote, with the pepper of the app;
where ``Idempotency(labels=...)`` keeps the key or the path in the clear, they are listed.

To resolve an ``unknown`` key, find out whether its work took effect. Then free the key, so that the caller's retry
runs, or give it the response that the caller should get.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import Any, Final, Literal, TypeAlias

from flexmw.errors import ConfigError
from flexmw.idempotency.core import Record, StoredResponse, complete, lapse, release
from flexmw.idempotency.core import stop as stopped
from flexmw.idempotency.hashing import KeyHasher
from flexmw.idempotency.running import running_execution
from flexmw.idempotency.stores import Held, Store
from flexmw.idempotency.stores.open import open_store

__all__ = ["PREFIX", "Given", "KeyState", "KnownKey", "full_id", "list_keys", "resolve", "short_ids", "stop"]

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

_TTL: Final = 86_400.0
"""Seconds that a resolved key is held, as by the default of ``Idempotency(ttl=...)``."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A response to give to a key.

    :param body: the body; it is sent as JSON.
    :param status: the HTTP status.
    :raises ConfigError: for a status outside 200 to 599.
    """

    body: Any
    status: int = 200

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ConfigError("Given(status=...)", self.status, "the status of a response, 200 to 599")


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
    async with _opened(storage) as store:
        async for name, held in store.scan(f"{prefix}:"):
            record = _record(held)
            if record is None:
                earlier += held.entry.startswith(_EARLIER)
            elif record.phase in states:
                known = _known(name, record)
                if (
                    key in (None, known.key)
                    or digest == _digest(name)
                    or (is_beginning and known.key.startswith(start))
                ):
                    keys.append(known)
    if earlier:
        _LOGGER.warning(
            "%d keys of an earlier version of flexmw are not listed: no request meets them any more, and they expire "
            "by their ttl",
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
    async with _opened(storage) as store:
        if await store.load(id) is not None:
            return id
        start = id.removeprefix("#")
        if len(start) < _SHORTEST_ID:
            raise ConfigError("id", id, f"the id of a key, or at least {_SHORTEST_ID} characters of its beginning")
        found = [
            name
            async for name, held in store.scan(f"{prefix}:")
            if (name.startswith(start) or _last_part(name).startswith(start)) and _record(held) is not None
        ]
    if len(found) > 1:
        raise ConfigError("id", id, f"one key; {len(found)} begin so: {', '.join(sorted(found)[:_MAX_NAMED])}")
    if not found:
        raise ConfigError("id", id, "the id of a key in this store, as listed, or its beginning")
    return found[0]


async def resolve(
    storage: str | Store, id: str, outcome: Literal["run"] | Given, *, keep: float = _TTL, force: bool = False
) -> KnownKey | None:
    """Resolve a key whose outcome is unknown.

    :param storage: a storage URL or a store.
    :param id: the id of the key from :func:`list_keys`.
    :param outcome: ``"run"`` frees the key: the caller's next request with it runs, from the recorded steps. A
        :class:`Given` becomes the response of the key.
    :param keep: seconds that the key is held from now on.
    :param force: also resolve a key that is running or has a response.
    :returns: the key as it is now; ``None`` when it was deleted. A key that was running is kept as ``open``.
    :raises ConfigError: when the store has no such key, when the key has changed meanwhile, or when it needs ``force``.
    """
    async with _opened(storage) as store:
        if outcome != "run" and not isinstance(outcome, Given):
            raise ConfigError("outcome", outcome, "'run' or a Given response")
        held = await store.load(id)
        record = None if held is None else _record(held)
        if held is None or record is None:
            raise ConfigError("id", id, "the id of a key in this store, as listed")
        if record.phase not in ("unknown", "open") and not force:
            raise ConfigError(
                "id", id, f"a key whose outcome is unknown; this one is {record.phase} (force settles it)"
            )
        # Without a generation: a client that holds the beginning of the first response must not go on in another one.
        record = replace(record, generation="")
        resolved = complete(record, _response(outcome)) if isinstance(outcome, Given) else release(record)
        if resolved is None and record.phase == "running":
            # A key that is gone is claimed anew by its living holder, as after a failover. A key that is open is not.
            resolved = replace(record, phase="open")
        if resolved is None:
            changed = await store.drop(id, held.token)
        else:
            token = token_hex(16)
            written = await store.swap(id, held.token, token, resolved.encode(), lease=0.0, ttl=keep)
            changed = written is not None and written.token == token
        if not changed:
            raise ConfigError("id", id, "a key that nobody changes meanwhile: list the keys again")
        return None if resolved is None else _known(id, resolved)


async def stop(storage: str | Store, id: str) -> KnownKey:
    """End a running execution. Its app hears ``http.disconnect`` and is cancelled.

    An execution of this process ends at once, one of another process at its next heartbeat, a third of the app's
    ``lease`` later at most. What it has sent is stored, with a 500 ``idempotency_ended`` as its end, and its clients
    get the same. A process with an earlier version of flexmw loses the key instead.

    :param storage: a storage URL or a store.
    :param id: the id of the key from :func:`list_keys`.
    :returns: the key as it is now: running, until the execution has ended.
    :raises ConfigError: when the store has no such key, when it does not run, or when it has changed meanwhile.
    """
    async with _opened(storage) as store:
        held = await store.load(id)
        record = None if held is None else _record(held)
        if held is None or record is None:
            raise ConfigError("id", id, "the id of a key in this store, as listed")
        if record.phase != "running":
            raise ConfigError("id", id, f"a key that is running; this one is {record.phase}")
        execution = running_execution(record.generation)
        if execution is None or not execution.stop():
            token, entry = token_hex(16), stopped(record).encode()
            written = await store.swap(id, held.token, token, entry, lease=held.lease, ttl=_TTL)
            if written is None or written.token != token:
                raise ConfigError("id", id, "a key that nobody changes meanwhile: list the keys again")
        return _known(id, record)


def _response(given: Given) -> StoredResponse:
    body = json.dumps(given.body, ensure_ascii=False, separators=(",", ":")).encode()
    headers = (("content-type", "application/json"), ("content-length", str(len(body))))
    return StoredResponse(status=given.status, headers=headers, body=body, size=len(body))


@asynccontextmanager
async def _opened(storage: str | Store) -> AsyncGenerator[Store]:
    # The bounds are those of the app: a program of its operator deletes nothing.
    store = open_store(storage, capacity=sys.maxsize, max_bytes=sys.maxsize)
    try:
        yield store
    finally:
        if store is not storage:
            await store.aclose()


def _record(held: Held) -> Record | None:
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


def _known(name: str, record: Record) -> KnownKey:
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
