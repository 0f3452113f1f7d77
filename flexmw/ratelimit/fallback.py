"""What happens when the store does not answer: a time budget, a breaker, and this process alone meanwhile."""

from __future__ import annotations

from asyncio import CancelledError, Task, TimerHandle, current_task, get_running_loop
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar

from flexmw.errors import ConfigError
from flexmw.kit.clock import Clock
from flexmw.ratelimit.algorithms.base import Algorithm
from flexmw.ratelimit.core import Cost, LimitResult, Rate, Slot
from flexmw.ratelimit.stores.memory import Memory

__all__ = ["Breaker", "Budget", "Ladder", "Policy", "Store", "check_loop", "policy_of"]

AnswerT = TypeVar("AnswerT")
_OPENS_AFTER: Final = 3
_OPEN_SECONDS: Final = 1.0
_OPEN_SECONDS_MOST: Final = 8.0


class Store(Protocol):
    """Where counters lie. ``take=False`` only looks; ``slot`` is taken with the rates or not at all; ``earlier`` are
    the digests that the caller had under earlier peppers; ``age`` says how many microseconds ago it was taken."""

    async def decide(
        self,
        digest: str,
        rates: Sequence[Rate],
        cost: Cost,
        *,
        take: bool = True,
        slot: Slot | None = None,
        earlier: Sequence[str] = (),
    ) -> LimitResult: ...
    async def give(
        self, digest: str, rates: Sequence[Rate], cost: Cost, earlier: Sequence[str] = (), *, age: int = 0
    ) -> None: ...
    async def renew(self, digest: str, slot: Slot) -> None: ...
    async def release(self, digest: str, slot: Slot) -> None: ...
    async def close(self) -> None: ...


class Policy:
    """``on_store_failure``, read: ``mode`` is ``local``, ``open`` or ``closed``; ``replicas`` divides local limits."""

    __slots__ = ("mode", "replicas")

    def __init__(self, mode: str, replicas: int = 1) -> None:
        self.mode, self.replicas = mode, replicas

    def shares(self, rates: Sequence[Rate]) -> tuple[Rate, ...]:
        """This process's part of each limit, at least 1."""
        return tuple(rate._replace(limit=max(1, rate.limit // self.replicas)) for rate in rates)

    def share(self, slot: Slot | None) -> Slot | None:
        """The same of the slots."""
        return None if slot is None else slot._replace(limit=max(1, slot.limit // self.replicas))


def policy_of(value: object, option: str) -> Policy:
    """``"local"``, ``"local/4"`` (a quarter of each limit in each of four processes), ``"open"`` or ``"closed"``.

    :raises ConfigError: for anything else.
    """
    if isinstance(value, str):
        mode, divided, replicas = value.partition("/")
        if mode in ("local", "open", "closed") and not divided:
            return Policy(mode)
        if mode == "local" and replicas.isascii() and replicas.isdigit() and 1 <= int(replicas) <= 10_000:
            return Policy(mode, int(replicas))
    raise ConfigError(option, value, "'local', 'local/<number of processes>', 'open' or 'closed'")


def check_loop() -> None:
    """Stores over a network are driven by asyncio.

    :raises ConfigError: under trio.
    """
    try:
        get_running_loop()
    except RuntimeError:
        expected = "memory:// under trio: stores over a network need a server that runs on asyncio"
        raise ConfigError("RateLimit(storage=...)", "<a store over a network>", expected) from None


class Budget:
    """A time limit that a busy event loop does not use up.

    When the timer fires late, the loop was held up and not the store: the answer may be there, unread. So the time
    starts anew, and also after a punctual one the loop gets a few turns to deliver what has arrived.
    """

    __slots__ = ("_cancelling", "_fired", "_handle", "_loop", "_seconds", "_task", "_turns", "_when")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._fired = False
        self._turns = 0

    def __enter__(self) -> None:
        self._loop = get_running_loop()
        self._task: Task[Any] | None = current_task()
        self._cancelling = self._task.cancelling() if self._task else 0
        self._arm()

    def _arm(self) -> None:
        self._when = self._loop.time() + self._seconds
        self._handle: TimerHandle | Any = self._loop.call_at(self._when, self._fire)

    def _fire(self) -> None:
        if self._loop.time() - self._when > self._seconds / 4:
            self._turns = 0
            self._arm()
        elif self._turns < 4:
            self._turns += 1
            self._handle = self._loop.call_soon(self._fire_again, self._loop.time())
        else:
            self._fired = True
            assert self._task is not None  # noqa: S101
            self._task.cancel()

    def _fire_again(self, asked_at: float) -> None:
        if self._loop.time() - asked_at > self._seconds / 4:
            self._turns = 0
            self._arm()
        else:
            self._when = self._loop.time()
            self._fire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        self._handle.cancel()
        if (
            self._fired
            and self._task is not None
            and self._task.uncancel() <= self._cancelling
            and kind is CancelledError
        ):
            raise TimeoutError("the store did not answer in time") from error
        if kind is not CancelledError and self._task is not None and self._task.cancelling() > self._cancelling:
            # redis-py may finish a command although it was cancelled meanwhile, and nobody would hear of that.
            raise CancelledError from error


class Breaker:
    """Opens after several failures in a row, lets one decision through now and then, closes when that succeeds."""

    __slots__ = ("_failures", "_monotonic", "_open_for", "_open_until", "_probing")

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._failures = 0
        self._open_for = _OPEN_SECONDS
        self._open_until = 0.0
        self._probing = False

    def lets_through(self) -> bool:
        if self._failures < _OPENS_AFTER:
            return True
        if self._probing or self._monotonic() < self._open_until:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        self._failures, self._open_for, self._probing = 0, _OPEN_SECONDS, False

    def failed(self) -> None:
        self._failures += 1
        if self._failures >= _OPENS_AFTER:
            if self._probing:
                self._open_for = min(_OPEN_SECONDS_MOST, self._open_for * 2)
            self._open_until = self._monotonic() + self._open_for
        self._probing = False

    def gave_up(self) -> None:
        """The decision that was let through was cancelled by its client: nothing is learned from it."""
        self._probing = False

    @property
    def retry_in(self) -> float:
        """Seconds until the store is asked again."""
        return max(0.0, self._open_until - self._monotonic()) if self._failures >= _OPENS_AFTER else 0.0


class Ladder:
    """A store with what is below it. Its answer is a verdict and whether it is degraded; no verdict at all means that
    nobody counted."""

    def __init__(self, store: Store, strategy: Algorithm, policy: Policy, timeout: float, clock: Clock) -> None:
        self._store = store
        self._policy = policy
        self._timeout = timeout
        self._local = Memory(strategy, clock)
        self.breaker = Breaker(clock.monotonic)

    async def decide(
        self,
        digest: str,
        rates: Sequence[Rate],
        cost: Cost,
        failed: Callable[[Exception], None],
        *,
        take: bool = True,
        slot: Slot | None = None,
        earlier: Sequence[str] = (),
    ) -> tuple[LimitResult | None, bool]:
        """Ask the store, else decide by ``on_store_failure``. ``failed`` is told what the store raised."""
        question = self._store.decide(digest, rates, cost, take=take, slot=slot, earlier=earlier)
        found = await self._ask(question, failed)
        if found is not None:
            return found, False
        if self._policy.mode != "local":
            return None, True
        shares, share = self._policy.shares(rates), self._policy.share(slot)
        return self._local.decide_now(digest, shares, cost, take=take, slot=share), True

    async def give(
        self,
        digest: str,
        rates: Sequence[Rate],
        cost: Cost,
        failed: Callable[[Exception], None],
        *,
        degraded: bool = False,
        earlier: Sequence[str] = (),
        age: int = 0,
    ) -> None:
        """Settle what was taken, where it was. What the store does not hear in time is lost."""
        if degraded:
            self._local.give_now(digest, self._policy.shares(rates), cost, age)
            return
        await self._ask(self._store.give(digest, rates, cost, earlier, age=age), failed)

    async def renew(self, digest: str, slot: Slot) -> None:
        """Begin a lease anew."""
        await self._ask(self._store.renew(digest, slot), _unheard)

    async def release(self, digest: str, slot: Slot) -> None:
        """Give a slot back, wherever it was taken: a store that did not answer may have carried the decision out. What
        it does not hear in time is free when the lease ends."""
        share = self._policy.share(slot)
        assert share is not None  # noqa: S101
        self._local.release_now(digest, share)
        await self._ask(self._store.release(digest, slot), _unheard)

    async def close(self) -> None:
        """Close the store's connections; one that is gone already is no error."""
        with suppress(Exception):
            await self._store.close()

    async def _ask(self, question: Coroutine[Any, Any, AnswerT], failed: Callable[[Exception], None]) -> AnswerT | None:
        if not self.breaker.lets_through():
            question.close()
            return None
        try:
            check_loop()
        except ConfigError:
            question.close()
            raise
        try:
            with Budget(self._timeout):
                answer = await question
        except Exception as error:
            self.breaker.failed()
            failed(error)
            return None
        except BaseException:
            self.breaker.gave_up()
            raise
        self.breaker.succeeded()
        return answer


def _unheard(error: Exception) -> None:
    """The breaker has noted it, and the decision to come says so."""
