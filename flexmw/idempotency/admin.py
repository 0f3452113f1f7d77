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
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import Any, Final, Literal

from flexmw.errors import ConfigError
from flexmw.idempotency.core import StoredResponse, complete, release
from flexmw.idempotency.core import stop as stopped
from flexmw.idempotency.known_keys import (
    PREFIX,
    KeyState,
    KnownKey,
    full_id,
    known_key,
    list_keys,
    opened,
    record_of,
    short_ids,
)
from flexmw.idempotency.running import running_execution
from flexmw.idempotency.stores import Store

__all__ = ["PREFIX", "Given", "KeyState", "KnownKey", "full_id", "list_keys", "resolve", "short_ids", "stop"]

_TTL: Final = 86_400.0
"""Seconds that a resolved key is held, as by the default of ``Idempotency(ttl=...)``."""


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
    async with opened(storage) as store:
        if outcome != "run" and not isinstance(outcome, Given):
            raise ConfigError("outcome", outcome, "'run' or a Given response")
        held = await store.load(id)
        record = None if held is None else record_of(held)
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
        return None if resolved is None else known_key(id, resolved)


async def stop(storage: str | Store, id: str) -> KnownKey:
    """End a running execution. Its app receives ``http.disconnect`` and is cancelled.

    An execution of this process ends at once, one of another process at its next heartbeat, a third of the app's
    ``lease`` later at most. The part that it has sent is stored, with a 500 ``idempotency_ended`` as its end, and its
    clients get that end too. A process with an earlier version of flexmw loses the key instead.

    :param storage: a storage URL or a store.
    :param id: the id of the key from :func:`list_keys`.
    :returns: the key as it is now: running, until the execution has ended.
    :raises ConfigError: when the store has no such key, when it does not run, or when it has changed meanwhile.
    """
    async with opened(storage) as store:
        held = await store.load(id)
        record = None if held is None else record_of(held)
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
        return known_key(id, record)


def _response(given: Given) -> StoredResponse:
    body = json.dumps(given.body, ensure_ascii=False, separators=(",", ":")).encode()
    headers = (("content-type", "application/json"), ("content-length", str(len(body))))
    return StoredResponse(status=given.status, headers=headers, body=body, size=len(body))
