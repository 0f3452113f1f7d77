"""Claims on keys: the state machine of :mod:`flexmw.idempotency.core`, carried out on a store.

:class:`Claims` claims a key; a :class:`Claim` is the key that a request has claimed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import inf
from os import urandom
from typing import Any, Final, TypeAlias, TypedDict, cast

import anyio

from flexmw.idempotency.core import (
    KeyedRequest,
    OnUnknown,
    Record,
    Refuse,
    Replay,
    Run,
    StoredResponse,
    begin,
    complete,
    decide,
    lapse,
    release,
)
from flexmw.idempotency.running import running_execution
from flexmw.idempotency.stores import Appended, Full, Held, LogStore, Store, Swap
from flexmw.idempotency.stores.guarded import GuardedStore, Unavailable, guarded
from flexmw.idempotency.turns import Turns
from flexmw.kit.clock import Clock
from flexmw.kit.redis_errors import is_reply

__all__ = ["Claim", "Claims", "StoreFailed", "SwapPair", "TakenOver", "random_token"]

_ROUNDS: Final = 32
"""How often a lost race for an entry is repeated. Each loss means that another request has won, so few are enough."""


SwapPair: TypeAlias = Callable[[Swap, Swap], Awaitable[tuple[Held | None, Held | None]]]
"""The method of :class:`~flexmw.idempotency.stores.SwapPairs`."""


class _Times(TypedDict):
    lease: float
    ttl: float


class StoreFailed(Exception):
    """The store does not respond. ``__cause__`` is the exception of the store."""


class TakenOver(RuntimeError):
    """Another attempt has claimed the key meanwhile. This attempt must stop."""

    def __init__(self) -> None:
        super().__init__("another attempt has taken this idempotency key over: this one must stop")


class Claim:
    """A key that one request has claimed. Its operations run one after another.

    Each write has a new token. When the reply to a write was lost, the store holds a token that this claim has tried,
    and the claim goes on with that token.

    :ivar claims: the claims that this one belongs to.
    """

    # Defaults of the class, because most claims set none of them.
    is_stopping = False
    """Whether an operator has asked for the end of the execution."""
    due_at = 0.0
    """Monotonic time in seconds at which the lease is renewed. Set by the heartbeats."""
    _tried: tuple[str, ...] = ()
    """The tokens of the writes whose replies were lost, since the last one whose reply arrived."""

    def __init__(self, claims: Claims, name: str, token: str, record: Record, ttl: float) -> None:
        self.claims, self.name, self._token, self.record, self._ttl = claims, name, token, record, ttl
        self._lock = Turns()

    @property
    def store(self) -> Store:
        """The store that holds the key."""
        return self.claims.store

    def extension(self) -> tuple[str, str, float, float]:
        """Key, token, lease and time to live of the next heartbeat: the arguments of ``extend``."""
        return self.name, self._token, self.claims.lease, max(self._ttl, self.claims.lease)

    async def renew(self) -> bool:
        """Renew the lease. ``False``: another attempt has taken the key over.

        A store that holds nothing under the key has lost the claim, in a failover for example: the key is claimed anew,
        because its holder is alive.
        """
        async with self._lock:
            with guarded(self.claims.store):
                return await self._renew()

    async def _renew(self) -> bool:
        store, lease, ttl = self.claims.store, self.claims.lease, max(self._ttl, self.claims.lease)
        while True:
            if await store.extend(self.name, self._token, lease=lease, ttl=ttl):
                return True
            held = await store.load(self.name)
            if held is None:
                held = await store.swap(
                    self.name, "", self._token, self.claims.encode(self.record), lease=lease, ttl=ttl
                )
                if held is not None and held.token == self._token:
                    return True
            if not self._adopt(held):
                return False

    async def record_steps(self, steps: dict[str, Any]) -> None:
        """Write the recovery points of the handler.

        :raises TakenOver: when another attempt has taken the key over.
        """
        if not await self._write(replace(self.record, steps=steps), lease=self.claims.lease):
            raise TakenOver

    async def append(self, at: int, data: bytes, *, head: bytes = b"", last: bool = False) -> Appended:
        """Append to the log of the response, and renew the lease.

        :param at: offset of ``data`` in bytes.
        :param head: the head of the response, for an append at 0.
        :param last: nothing will be appended afterwards.
        :returns: the log in the store afterwards. Where its size is not ``at + len(data)``, the store has lost the end
            of the log, or all of it: the caller goes on from there.
        :raises TakenOver: when another attempt has taken the key over.
        """
        claims, generation = self.claims, self.record.generation
        store = cast("LogStore", claims.store)
        times: _Times = {"lease": claims.lease, "ttl": max(self._ttl, claims.lease)}
        async with self._lock:
            with guarded(claims.store):
                while True:
                    appended = await store.append(
                        self.name, self._token, generation, at, data, head=head, last=last, **times
                    )
                    if appended is not None:
                        return appended
                    token = self._token
                    if not await self._renew():
                        raise TakenOver
                    piece = await store.read(self.name, generation, 0, 0)
                    size = 0 if piece is None else piece.size
                    if size != at or token == self._token:
                        return Appended(size, inf)

    def complete(self, response: StoredResponse) -> Coroutine[Any, Any, bool]:
        """Store the response. ``False``: another attempt has taken the key over, and its response counts."""
        return self._write(complete(self.record, response), lease=0.0)

    async def complete_with(self, response: StoredResponse, swap_pair: SwapPair, second: Swap) -> Held | None:
        """:meth:`complete`, and carry out a write of another key in the same step.

        :param swap_pair: the method of the store of the claim.
        :param second: the other write. It is left out where the store does not hold this claim as it was last written.
        :returns: what the other key holds afterwards; ``None`` if the second write was left out.
        """
        claims, record = self.claims, complete(self.record, response)
        async with self._lock:
            token = claims.token()
            first = Swap(self.name, self._token, token, claims.encode(record), 0.0, self._ttl)
            try:
                held, other = await swap_pair(first, second)
            except BaseException:
                self._tried += (token,)
                raise
            if held is not None and held.token == token:
                self._token, self.record, self._tried = token, record, ()
                return other
        await self.complete(response)
        return None

    async def is_complete(self) -> bool:
        """Whether the store holds a response of this execution. It may, where the reply to the write was lost."""
        async with self._lock:
            with guarded(self.claims.store):
                held = await self.claims.store.load(self.name)
        record = None if held is None else Record.decode(held.entry)
        return record is not None and record.phase == "done" and record.generation == self.record.generation

    async def release(self) -> bool:
        """Give the key back, because nothing was done. ``False``: another attempt has taken the key over."""
        record = release(self.record)
        if record is not None:
            return await self._write(record, lease=0.0)
        async with self._lock:
            while not await self.claims.store.drop(self.name, self._token):
                if not self._adopt(await self.claims.store.load(self.name)):
                    return False
            return True

    def lapse(self) -> Coroutine[Any, Any, bool]:
        """Mark the outcome as unknown now, instead of when the lease runs out."""
        return self._write(lapse(self.record), lease=0.0)

    async def _write(self, record: Record, *, lease: float) -> bool:
        turns, claims = self._lock, self.claims
        swap, token = claims.store.swap, claims.token()
        if not turns.take():
            await turns.wait()
        try:
            entry, ttl = claims.encode(record), max(self._ttl, lease)
            while True:
                held = await swap(self.name, self._token, token, entry, lease=lease, ttl=ttl)
                if held is None:  # the store has lost the claim
                    held = await swap(self.name, "", token, entry, lease=lease, ttl=ttl)
                if held is not None and held.token == token:
                    self._token, self.record, self._tried = token, record, ()
                    return True
                if not self._adopt(held):
                    return False
        except BaseException:
            self._tried += (token,)
            raise
        finally:
            turns.pass_on()

    def _adopt(self, held: Held | None) -> bool:
        """Whether the key still belongs to this claim, by a token that the claim then goes on with.

        The store holds a write of this claim whose reply was lost, or the request of an operator to stop.
        """
        if held is None or held.token == self._token:
            return False
        if held.token not in self._tried:
            if not self._is_stop(held):
                return False
            self.is_stopping, self._tried = True, ()
        self._token = held.token
        return True

    def _is_stop(self, held: Held) -> bool:
        with suppress(ValueError):
            record = Record.decode(held.entry)
            return record.stopping and record.phase == "running" and record.generation == self.record.generation
        return False


def _runs_here(record: Record | None) -> bool:
    """Whether the execution of a record runs in this process, however late its heartbeat is."""
    return record is not None and running_execution(record.generation) is not None


def random_token() -> str:
    """A token that no other write of any process has."""
    return urandom(16).hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Claims keys in one store. Holds no state of any request.

    :param store: the store.
    :param clock: the time of the claims.
    :param lease: seconds of a lease without a heartbeat.
    :param ttl: seconds that a key and its response are held.
    :param sdk_window: seconds between two attempts of one SDK call at most.
    :param on_unknown: whether a key whose outcome is unknown may be claimed again.
    :param token: makes the token of a write.
    :param generation: makes the generation of an execution: 24 hexadecimal digits.
    :param encode: makes the entry of a record.
    """

    store: Store
    clock: Clock
    lease: float
    ttl: float
    sdk_window: float
    on_unknown: OnUnknown
    token: Callable[[], str] = random_token
    generation: Callable[[], str] = lambda: urandom(12).hex()
    encode: Callable[[Record], bytes] = Record.encode
    store_time: Callable[[], float | None] = field(init=False)
    """The time by which the attempts of an SDK's call are compared. By the wall clocks of two machines, a retry was a
    new call where one clock was ahead by more than ``sdk_window``."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "store_time", getattr(self.store, "store_time", self.clock.now))

    async def claim(
        self, name: str, request: KeyedRequest, *, ttl: float, read_first: bool = False
    ) -> Claim | Replay | Refuse:
        """Claim a key.

        :param name: the store key.
        :param request: the request that wants to run.
        :param ttl: seconds that the entry lives at most.
        :param read_first: read before writing, which is cheaper for a key that is probably held.
        :raises StoreFailed: when the store does not respond. The key is given back if it was claimed nevertheless.
        """
        token, generation, store = self.token(), self.generation(), self.store
        try:
            with guarded(store):
                if read_first:
                    held = await store.load(name)
                else:
                    # Most keys are new. The claim of a key that is not held needs no decision.
                    record = begin(request, generation)
                    lease = self.lease
                    held = await store.swap(name, "", token, self.encode(record), lease=lease, ttl=max(ttl, lease))
                    if held is not None and held.token == token:
                        return Claim(self, name, token, record, ttl)
                return await self.claim_held(name, request, token, generation, held, ttl=ttl)
        except Exception as error:
            await self.undo(name, token, error)
            raise StoreFailed from error
        except anyio.get_cancelled_exc_class():
            await self.drop(name, token)
            raise

    async def claim_held(
        self, name: str, request: KeyedRequest, token: str, generation: str, held: Held | None, *, ttl: float
    ) -> Claim | Replay | Refuse:
        """Claim a key of which it is known what the store holds.

        :param token: the token of the claim.
        :param generation: the generation of the execution, if the request runs.
        :param held: what the store holds under the key.
        :raises Exception: what the store raises. Call :meth:`undo` then.
        """
        try:
            for _ in range(_ROUNDS):
                record = None if held is None else Record.decode(held.entry)
                # An event loop that is blocked renews no lease, and its next request may come before the heartbeat.
                alive = held is not None and (held.lease > 0 or _runs_here(record))
                decision = decide(
                    record, alive=alive, request=request, on_unknown=self.on_unknown, generation=generation
                )
                if not isinstance(decision, Run):
                    return decision
                expected = "" if held is None else held.token
                entry = self.encode(decision.record)
                held = await self.store.swap(name, expected, token, entry, lease=self.lease, ttl=max(ttl, self.lease))
                if held is not None and held.token == token:
                    return Claim(self, name, token, decision.record, ttl)
        except ValueError:
            return Refuse("unknown")
        return Refuse("in_progress")

    async def undo(self, name: str, token: str, error: Exception) -> None:
        """Undo a claim that has failed, if the store may have carried it out.

        :param error: what the store has raised.
        """
        if is_reply(error) or isinstance(error, (Full, Unavailable)):
            return  # the store has executed nothing
        if isinstance(self.store, GuardedStore):
            self.store.give_back(name, token)
            return
        await self.drop(name, token)

    async def drop(self, name: str, token: str) -> None:
        """Delete a key that this process may have claimed, and whose request will not run: a cancelled one. The key
        would otherwise become ``unknown``, although nothing was done. A failure of the store is ignored."""
        with anyio.CancelScope(shield=True), suppress(Exception), guarded(self.store):
            await self.store.drop(name, token)
