"""For operators and apps: see which keys there are, and settle those whose outcome nobody knows.

>>> import anyio
>>> from flexmw.idempotency import open_store
>>> async def tidy(storage) -> int:
...     unknown = await list_keys(storage, states=("unknown",))
...     for each in unknown:
...         await resolve(storage, each.id, "run")                 # checked: it did not take effect
...     return len(unknown)
>>> anyio.run(tidy, open_store("memory://"))
0

What to do about a key that is ``unknown``: find out whether its work took effect (``key``, ``what`` and ``at`` name
it), then either free it, so that the caller's retry runs, or give it the answer that the caller should get.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final, Literal, TypeAlias

from flexmw.errors import ConfigError
from flexmw.idempotency.core import Record, StoredResponse, complete, lapse, release
from flexmw.idempotency.stores import Held, Store
from flexmw.idempotency.stores.open import open_store

__all__ = ["PREFIX", "Given", "KeyState", "KnownKey", "list_keys", "resolve"]

PREFIX: Final = "flexmw:idempotency"
"""What store keys begin with, unless ``Idempotency(prefix=...)`` says otherwise."""

KeyState: TypeAlias = Literal["running", "done", "unknown", "open"]
_STATES: Final = ("running", "done", "unknown", "open")
_KEPT_FOR: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKey:
    """One key. ``id`` is its store key, ``key`` the caller's text (an id of ours for a request of an SDK without one),
    ``what`` method and path, ``at`` the Unix time of the last claim, ``status`` that of the kept answer."""

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
    """An answer to give to a key: ``body`` is sent as JSON.

    :raises ConfigError: a status that no final answer has.
    """

    body: Any
    status: int = 200

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ConfigError("Given(status=...)", self.status, "the status of an answer, 200 to 599")


async def list_keys(
    storage: str | Store,
    *,
    states: Collection[KeyState] = ("running", "unknown"),
    key: str | None = None,
    prefix: str = PREFIX,
    limit: int = 1000,
) -> list[KnownKey]:
    """The keys in a store, oldest first: those in ``states``, and with ``key`` only those that the callers named so.

    :param limit: at most so many are returned. :raises ConfigError: for a URL or a state that is none.
    """
    if wrong := [state for state in states if state not in _STATES]:
        raise ConfigError("states", wrong[0], f"one of {', '.join(_STATES)}")
    found: list[KnownKey] = []
    async with _opened(storage) as store:
        async for name, held in store.scan(f"{prefix}:"):
            record = _record(held)
            if record is not None and record.phase in states and key in (None, record.key):
                found.append(_known(name, record))
    return sorted(found, key=lambda each: each.at)[:limit]


async def resolve(
    storage: str | Store, id: str, outcome: Literal["run"] | Given, *, keep: float = _KEPT_FOR, force: bool = False
) -> KnownKey | None:
    """Settle the key with this ``id``, as :func:`list_keys` gave it.

    :param outcome: ``"run"`` frees the key: the caller's next request with it runs, from the steps that were recorded.
        A :class:`Given` becomes its answer.
    :param keep: seconds that the key is kept from now on.
    :param force: also settle a key that still runs or has an answer already.
    :returns: the key as it is now; ``None`` when it is forgotten.
    :raises ConfigError: when there is no such key, it changed meanwhile, or it needs ``force``.
    """
    async with _opened(storage) as store:
        if outcome != "run" and not isinstance(outcome, Given):
            raise ConfigError("outcome", outcome, "'run' or a Given answer")
        held = await store.load(id)
        record = None if held is None else _record(held)
        if held is None or record is None:
            raise ConfigError("id", id, "the id of a key in this store, as listed")
        if record.phase not in ("unknown", "open") and not force:
            raise ConfigError(
                "id", id, f"a key whose outcome is unknown; this one is {record.phase} (force settles it)"
            )
        settled = complete(record, _kept(outcome)) if isinstance(outcome, Given) else release(record)
        if settled is None:
            changed = await store.drop(id, held.token)
        else:
            token = token_hex(16)
            now = await store.swap(id, held.token, token, settled.encode(), lease=0.0, ttl=keep)
            changed = now is not None and now.token == token
        if not changed:
            raise ConfigError("id", id, "a key that nobody changes meanwhile: list the keys again")
        return None if settled is None else _known(id, settled)


def _kept(given: Given) -> StoredResponse:
    body = json.dumps(given.body, ensure_ascii=False, separators=(",", ":")).encode()
    headers = (("content-type", "application/json"), ("content-length", str(len(body))))
    return StoredResponse(status=given.status, headers=headers, body=body, size=len(body))


@asynccontextmanager
async def _opened(storage: str | Store) -> AsyncGenerator[Store]:
    store = open_store(storage)
    try:
        yield store
    finally:
        if store is not storage:
            await store.aclose()


def _record(held: Held) -> Record | None:
    """The record that an entry is; ``None`` for the lists of SDK calls, which lie beside them."""
    try:
        record = Record.decode(held.entry)
    except ValueError:
        return None
    return lapse(record) if record.phase == "running" and held.lease <= 0 else record


def _known(name: str, record: Record) -> KnownKey:
    return KnownKey(
        id=name,
        key=record.key,
        state=record.phase,
        what=record.what,
        at=record.at,
        attempt=record.attempt,
        steps=tuple(record.steps),
        status=None if record.response is None else record.response.status,
    )
