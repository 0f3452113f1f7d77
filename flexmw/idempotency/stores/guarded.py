"""A time budget and a circuit breaker around a store that may fail.

1. All operations of one request share the time of ``store_timeout`` (:meth:`GuardedStore.budget`), waiting for a thread
   included.
2. After three operations without any reply the breaker opens for the process. While the breaker is open, operations
   fail at once, but for one operation a second, which tests the store. An error that the server sends does not open
   the breaker: a server that replies is alive, and one without free memory still renews the leases of running requests.
   Neither does a sqlite file that is full.
3. A claim whose outcome is unknown is undone (:meth:`GuardedStore.give_back`), because the client was told that the
   request was not executed. No queue is needed: the deadline of a claim refuses a claim that arrives late.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from types import CoroutineType
from typing import Any, Final, ParamSpec, Self, TypeVar

import anyio

from flexmw.idempotency.stores import (
    Appended,
    Full,
    Held,
    LogStore,
    ManyLeases,
    Piece,
    Store,
    StoreTime,
    Swap,
    SwapPairs,
)
from flexmw.kit import time_limit
from flexmw.kit.background import start_in_background
from flexmw.kit.breaker import Breaker
from flexmw.kit.clock import Clock
from flexmw.kit.loop_time import current_time, limit
from flexmw.kit.redis_errors import is_refusal, is_reply
from flexmw.kit.store_log import Fallback, StoreLog
from flexmw.kit.store_observer import observer, report

__all__ = ["FALLBACKS", "GuardedStore", "Unavailable", "count_without_store", "guarded"]

P = ParamSpec("P")
T = TypeVar("T")

_NOTHING: Final = nullcontext()

_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 1.0
"""Seconds between two attempts to undo a claim."""

_GIVE_BACK_SECONDS: Final = 60.0
_MAX_GIVEN_BACK: Final = 10_000
"""Most claims to undo that are remembered. If there are more, the oldest one expires by its deadline."""

FALLBACKS: Final = {
    "refuse": Fallback(
        "Idempotency refuses requests that need it with 503 until it responds",
        "Idempotency refused {count} requests with 503",
    ),
    "run": Fallback(
        "Idempotency runs every request without protection until it responds",
        "Idempotency ran {count} requests without protection",
    ),
}
"""What the log says of each value of ``on_store_failure``."""


class _BudgetSpent(TimeoutError):
    """Earlier operations of the request have used up its time, so the store was not asked."""


class Unavailable(Exception):
    """The store has not responded to the last operations, so it was not asked."""


def guarded(store: Store) -> AbstractContextManager[None]:
    """One time budget for all operations inside the context; without effect for a store without a guard."""
    return store.budget() if isinstance(store, GuardedStore) else _NOTHING


def count_without_store(store: Store) -> None:
    """A request was decided without the store: the log line about the end of the outage names their number."""
    if isinstance(store, GuardedStore):
        store.log.decided_locally()


class GuardedStore:
    """A :class:`~flexmw.idempotency.stores.Store` whose operations end in time.

    :param store: the store.
    :param timeout: seconds that the operations of one budget may take together.
    :param clock: the clock of the breaker.
    :param log: logs that the store does not respond, and that it responds again.
    """

    def __new__(cls, store: Store, *, timeout: float, clock: Clock, log: StoreLog) -> Self:
        """A store that offers logs exactly if ``store`` does."""
        return super().__new__(_GuardedLogs if cls is GuardedStore and isinstance(store, LogStore) else cls)  # type: ignore[return-value]

    def __init__(self, store: Store, *, timeout: float, clock: Clock, log: StoreLog) -> None:
        self.store = store
        self._limits_itself = bool(getattr(store, "obeys_time_limit", False))
        self._timeout, self.log = timeout, log
        self._monotonic, self._breaker = clock.monotonic, Breaker(clock.monotonic)
        self._given_back: dict[str, str] = {}
        """The tokens of claims that are to be undone, by key."""
        if isinstance(store, ManyLeases):
            # Attributes of the object, so that the guard has a method exactly if the store has it.
            self.extend_many = partial(self._extend_many, store)
        if isinstance(store, SwapPairs):
            self.swap_pair = partial(self._swap_pair, store)
        if isinstance(store, StoreTime):
            self.store_time = store.store_time

    def budget(self) -> AbstractContextManager[None]:
        """A context whose operations may take ``timeout`` seconds together."""
        return time_limit.within(self._timeout, current_time(self._timeout))

    def load(self, key: str) -> CoroutineType[Any, Any, Held | None]:
        # Not coroutines, this one and :meth:`swap`: each of a request's coroutines costs as much as this whole method.
        loading = self._run("load", self.store.load, key)
        return self._after_undo(key, loading) if key in self._given_back else loading  # type: ignore[return-value]

    def swap(
        self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float
    ) -> CoroutineType[Any, Any, Held | None]:
        swapping = self._run("swap", self.store.swap, key, expected, token, entry, lease=lease, ttl=ttl)
        return self._after_undo(key, swapping) if key in self._given_back else swapping  # type: ignore[return-value]

    async def _swap_pair(self, store: SwapPairs, first: Swap, second: Swap) -> tuple[Held | None, Held | None]:
        for key in (first.key, second.key):
            if key in self._given_back:
                await self._undo_first(key)
        return await self._run("swap", store.swap_pair, first, second)

    async def extend(self, key: str, token: str, *, lease: float, ttl: float) -> bool:
        return await self._run("extend", self.store.extend, key, token, lease=lease, ttl=ttl)

    async def _extend_many(self, store: ManyLeases, leases: Sequence[tuple[str, str, float, float]]) -> Sequence[bool]:
        return await self._run("extend", store.extend_many, leases)

    async def drop(self, key: str, token: str) -> bool:
        return await self._run("drop", self.store.drop, key, token)

    def scan(self, prefix: str = "") -> AsyncIterator[tuple[str, Held]]:
        return self.store.scan(prefix)

    async def aclose(self) -> None:
        await self.store.aclose()

    def give_back(self, key: str, token: str) -> None:
        """Undo a claim whose outcome is unknown, as soon as the store replies. Does not wait for the store.

        :meth:`load` and :meth:`swap` undo the claim first if they come for the same key.
        """
        while len(self._given_back) >= _MAX_GIVEN_BACK:
            del self._given_back[next(iter(self._given_back))]
        self._given_back[key] = token
        start_in_background(partial(self._give_back, key, token))

    async def _after_undo(self, key: str, operation: Coroutine[Any, Any, T]) -> T:
        """Undo a claim of a key first, whose outcome is unknown. Then carry out the operation on the key."""
        try:
            await self._undo_first(key)
            return await operation
        finally:
            operation.close()  # without effect after its end

    async def _undo_first(self, key: str) -> None:
        token = self._given_back.get(key)
        if token is not None:
            await self._run("drop", self.store.drop, key, token)
            self._given_back.pop(key, None)

    async def _give_back(self, key: str, token: str) -> None:
        late_at = anyio.current_time() + self._timeout
        ends, pause = late_at + _GIVE_BACK_SECONDS, _FIRST_PAUSE
        while self._given_back.get(key) == token and anyio.current_time() < ends:
            with suppress(Exception):
                time = current_time(self._timeout)
                with time_limit.within(self._timeout, time), limit(self._timeout, time):
                    await self.store.drop(key, token)
                if anyio.current_time() > late_at:  # until then the claim may still arrive
                    self._given_back.pop(key, None)
                    return
            await anyio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _run(self, name: str, operation: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        if not self._breaker.allows():
            raise Unavailable("the store has not responded to the last requests")
        is_observed = observer.get() is not None
        began = self._monotonic() if is_observed else 0.0
        try:
            seconds = time_limit.remaining()
            if seconds <= 0.0:
                raise _BudgetSpent("the time for the store is over")
            if self._limits_itself and seconds <= self._timeout:  # the budget of the request has begun before
                result = await operation(*args, **kwargs)
            else:
                time = current_time(self._timeout)
                with time_limit.within(self._timeout, time):
                    if self._limits_itself:
                        result = await operation(*args, **kwargs)
                    else:
                        with limit(min(seconds, self._timeout), time):
                            result = await operation(*args, **kwargs)
        except _BudgetSpent:
            self._breaker.cancelled()
            raise
        except Exception as error:
            if is_observed:
                report("idempotency", name, self._monotonic() - began, error)
            if isinstance(error, Full) or (is_reply(error) and not is_refusal(error)):
                self._breaker.replied()
            else:
                self._breaker.failed()
            self.log.lost(error, is_claim=_is_claim(name, args))
            raise
        except BaseException:
            self._breaker.cancelled()
            raise
        if is_observed:
            report("idempotency", name, self._monotonic() - began, None)
        self._breaker.succeeded()
        if self.log.is_lost:
            self.log.back(is_claim=_is_claim(name, args) and _is_taken(args, result))
        return result


def _is_claim(name: str, args: Sequence[Any]) -> bool:
    """Return whether an operation claims a new key: a ``swap`` that expects no token."""
    if name != "swap":
        return False
    first = args[0]
    return not (first.expected if isinstance(first, Swap) else args[1])


def _is_taken(args: Sequence[Any], result: Any) -> bool:
    """Return whether a claim was written. A full store still says what a known key holds."""
    if isinstance(args[0], Swap):
        token, held = args[0].token, result[0]
    else:
        token, held = args[2], result
    return held is not None and held.token == token


class _GuardedLogs(GuardedStore):
    """A guarded store that offers logs."""

    store: LogStore  # type: ignore[assignment]

    async def append(
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
        append = self.store.append
        return await self._run(
            "append", append, key, token, generation, at, data, head=head, last=last, lease=lease, ttl=ttl
        )

    async def read(self, key: str, generation: str, start: int, limit: int) -> Piece | None:
        return await self._run("read", self.store.read, key, generation, start, limit)
