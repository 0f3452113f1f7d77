"""Claims on keys: the state machine of :mod:`flexmw.idempotency.core` carried out on a store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import Any, Final

import anyio

from flexmw.idempotency import sdk
from flexmw.idempotency.core import Ask, Kept, OnUnknown, Record, Refuse, Replay, Run, decide, lapse, release, settle
from flexmw.idempotency.stores import Held, Store
from flexmw.kit.clock import Clock

__all__ = ["Claim", "Claims", "StoreFailed", "TakenOver"]

_ROUNDS: Final = 32
"""How often a lost race is run again: each loss means that another request won it, so a few are always enough."""


class StoreFailed(Exception):
    """The store could not be asked. ``__cause__`` says why."""


class TakenOver(RuntimeError):
    """Another attempt has the key by now: this one must not go on."""

    def __init__(self) -> None:
        super().__init__("another attempt has taken this idempotency key over: this one must stop")


class Claim:
    """A key that this request has won. Used by one request; its operations wait for each other."""

    def __init__(self, claims: Claims, name: str, token: str, record: Record, ttl: float) -> None:
        self._claims, self.name, self._token, self.record, self._ttl = claims, name, token, record, ttl
        self._lock = anyio.Lock()
        self._tried = {token}

    async def beat(self) -> bool:
        """Renew the lease. ``False``: the key was taken over."""
        async with self._lock:
            lease = self._claims.lease
            while True:
                if await self._claims.store.extend(self.name, self._token, lease=lease, ttl=max(self._ttl, lease)):
                    return True
                if not self._adopt(await self._claims.store.load(self.name)):
                    return False

    async def note(self, steps: dict[str, Any]) -> None:
        """Keep the steps. Raises :class:`TakenOver`."""
        if not await self._write(replace(self.record, steps=steps), lease=self._claims.lease):
            raise TakenOver

    async def settle(self, kept: Kept) -> bool:
        """Keep the answer. ``False``: another attempt has the key, and its answer counts."""
        return await self._write(settle(self.record, kept), lease=0.0)

    async def release(self) -> bool:
        """Give the key back: nothing was done."""
        record = release(self.record)
        if record is not None:
            return await self._write(record, lease=0.0)
        async with self._lock:
            while not await self._claims.store.drop(self.name, self._token):
                if not self._adopt(await self._claims.store.load(self.name)):
                    return False
            return True

    async def lapse(self) -> bool:
        """Say at once that the outcome is unknown, instead of letting the lease run out."""
        return await self._write(lapse(self.record), lease=0.0)

    async def _write(self, record: Record, *, lease: float) -> bool:
        async with self._lock:
            store, token = self._claims.store, self._claims.token()
            self._tried.add(token)
            entry, ttl = record.encode(), max(self._ttl, lease)
            while True:
                held = await store.swap(self.name, self._token, token, entry, lease=lease, ttl=ttl)
                if held is not None and held.token == token:
                    self._token, self.record, self._tried = token, record, {token}
                    return True
                if not self._adopt(held):
                    return False

    def _adopt(self, held: Held | None) -> bool:
        """Whether the key is still this claim's, by a write that took place although its reply was lost."""
        if held is None or held.token == self._token or held.token not in self._tried:
            return False
        self._token = held.token
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Claims keys in one store. Holds no state of any request."""

    store: Store
    clock: Clock
    lease: float
    ttl: float
    sdk_window: float
    on_unknown: OnUnknown
    token: Callable[[], str] = lambda: token_hex(16)

    async def claim(self, name: str, ask: Ask, *, ttl: float, look_first: bool = False) -> Claim | Replay | Refuse:
        """Claim the store key ``name``. Raises :class:`StoreFailed`, and then gives back what it may have won.

        ``look_first`` is for a key that is probably held: reading is cheaper than an attempt to write.
        """
        token = self.token()
        try:
            return await self._claim(name, ask, token, ttl, look_first)
        except ValueError:
            return Refuse("unknown")
        except Exception as error:
            with suppress(Exception):
                await self.store.drop(name, token)
            raise StoreFailed from error

    async def _claim(self, name: str, ask: Ask, token: str, ttl: float, look_first: bool) -> Claim | Replay | Refuse:
        held: Held | None = await self.store.load(name) if look_first else None
        for _ in range(_ROUNDS):
            record = None if held is None else Record.decode(held.entry)
            alive = held is not None and held.lease > 0
            decision = decide(record, alive=alive, ask=ask, on_unknown=self.on_unknown)
            if not isinstance(decision, Run):
                return decision
            expected = "" if held is None else held.token
            entry = decision.record.encode()
            held = await self.store.swap(name, expected, token, entry, lease=self.lease, ttl=max(ttl, self.lease))
            if held is not None and held.token == token:
                return Claim(self, name, token, decision.record, ttl)
        return Refuse("in_progress")

    async def call_of(self, name: str, count: int, has_left: Callable[[], Awaitable[bool]]) -> str | None:
        """The id of the call that a request of an SDK with this retry count belongs to, out of the list under ``name``.

        ``None``: it arrived after its own retry, and nobody waits for its answer. Raises :class:`StoreFailed`.
        """
        try:
            return await self._call_of(name, count, has_left)
        except Exception as error:
            raise StoreFailed from error

    async def _call_of(self, name: str, count: int, has_left: Callable[[], Awaitable[bool]]) -> str | None:
        fresh = self.token()
        held: Held | None = await self.store.load(name) if count else None
        while True:
            calls = () if held is None else sdk.decode(held.entry)
            now = self.clock.now()
            call = sdk.match(calls, count=count, now=now, window=self.sdk_window)
            if call is None:
                calls = sdk.prune(calls, now=now, window=self.sdk_window)
                if sdk.may_be_late(calls, count=count) and await has_left():
                    return None
                calls = (*calls, sdk.SdkCall(id=fresh, count=count, at=now))
            else:
                calls = sdk.taken(calls, call, count=count, now=now)
            held, written = await self._list(name, held, calls)
            if written:
                return fresh if call is None else call.id

    async def mark(self, name: str, call: str, *, refused: bool) -> None:
        """Note that a call's answer was handed over, or that it was refused. What cannot be noted is only less exact:
        a later retry has more calls to choose from."""
        with suppress(Exception):
            held = await self.store.load(name)
            for _ in range(_ROUNDS):
                if held is None:
                    return
                held, written = await self._list(name, held, sdk.mark(sdk.decode(held.entry), call, refused=refused))
                if written:
                    return

    async def _list(self, name: str, held: Held | None, calls: tuple[sdk.SdkCall, ...]) -> tuple[Held | None, bool]:
        token, expected = self.token(), "" if held is None else held.token
        held = await self.store.swap(name, expected, token, sdk.encode(calls), lease=0.0, ttl=self.sdk_window)
        return held, held is not None and held.token == token
