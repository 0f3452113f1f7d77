"""One limiter: the ladder over its store, what it remembers of refusals, and the decision as a value."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flexmw.kit.clock import Clock
from flexmw.kit.store_url import StorageURL
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.core import SECOND, Cost, Decision, LimitResult, Rate, Slot
from flexmw.ratelimit.fallback import Ladder, Policy, Store
from flexmw.ratelimit.stores.memory import Memory, Table
from flexmw.ratelimit.stores.open import store_of

__all__ = ["Limiter"]


class Limiter:
    """Decides for a caller's digest. ``remembers`` refusals until they are over: right only where nothing is ever given
    back, because another process may be the one that gives it."""

    def __init__(
        self, strategy: str, url: StorageURL, *, policy: Policy, timeout: float, clock: Clock, remembers: bool
    ) -> None:
        self._clock = clock
        store: Store = store_of(url, ALGORITHMS[strategy], clock)
        self.memory = store if isinstance(store, Memory) else None
        self._ladder = Ladder(store, ALGORITHMS[strategy], policy, timeout, clock)
        self._denied = Table(60 * SECOND, most=262_144, shards=64) if remembers and self.memory is None else None

    async def decide(
        self,
        digest: str,
        rates: Sequence[Rate],
        cost: Cost,
        failed: Callable[[Exception], None],
        *,
        slot: Slot | None = None,
        earlier: Sequence[str] = (),
    ) -> tuple[LimitResult | None, bool]:
        """Take ``cost`` from all rates, and the slot, or nothing: a verdict (none: nobody counted), and whether it is
        degraded."""
        if self.memory is not None:
            return self.memory.decide_now(digest, rates, cost, slot=slot), False
        start = int(self._clock.monotonic() * SECOND)
        if self._denied is not None:
            held = self._denied.get(digest, start)
            if held is not None and start < held[0] and held[2] == rates and held[3] <= cost:
                wait = held[1] - start
                return held[4]._replace(wait_us=wait, reset_us=wait), False
        found, degraded = await self._ladder.decide(digest, rates, cost, failed, slot=slot, earlier=earlier)
        if (
            found is not None
            and found.wait_us
            and self._denied is not None
            and not degraded
            and (slot is None or found.rate.window_us)  # a slot may come free at any time
        ):
            # The store refuses until `wait` after its own decision, which lies between the two moments: it is asked
            # again from the earlier one on, and callers are told the later one.
            now = int(self._clock.monotonic() * SECOND)
            self._denied.put(digest, (start + found.wait_us, now + found.wait_us, rates, cost, found), now)
        return found, degraded

    async def look(
        self,
        digest: str,
        rates: Sequence[Rate],
        cost: Cost,
        *,
        slot: Slot | None = None,
        earlier: Sequence[str] = (),
    ) -> Decision | None:
        """What :meth:`decide` would say; takes nothing. ``None`` also where the store does not answer."""
        if self.memory is not None:
            return self.decision(self.memory.decide_now(digest, rates, cost, take=False, slot=slot))
        found, degraded = await self._ladder.decide(
            digest, rates, cost, lambda error: None, take=False, slot=slot, earlier=earlier
        )
        return None if found is None else self.decision(found, degraded)

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
        """Give back what was taken too much ``age`` microseconds ago, to whoever gave it; a negative ``cost`` is
        charged."""
        if self.memory is not None:
            self.memory.give_now(digest, rates, cost, age)
        else:
            await self._ladder.give(digest, rates, cost, failed, degraded=degraded, earlier=earlier, age=age)

    async def renew(self, digest: str, slot: Slot) -> None:
        """Begin a slot's lease anew."""
        await self._ladder.renew(digest, slot)

    async def release(self, digest: str, slot: Slot) -> None:
        """Give a slot back."""
        if self.memory is not None:
            self.memory.release_now(digest, slot)
        else:
            await self._ladder.release(digest, slot)

    async def close(self) -> None:
        """Let go of the store's connections."""
        await self._ladder.close()

    @property
    def retry_in(self) -> float:
        """Seconds until a store that does not answer is asked again."""
        return self._ladder.breaker.retry_in

    def decision(self, found: LimitResult, degraded: bool = False) -> Decision:
        """A verdict as a value that stands for itself."""
        rate = found.rate
        return Decision(
            allowed=not found.wait_us,
            limit=rate.limit,
            remaining=found.remaining,
            retry_after=found.wait_us / SECOND,
            reset_at=self._clock.now() + found.reset_us / SECOND,
            policy=rate.name,
            window=rate.seconds,
            degraded=degraded,
            unit=rate.unit,
            others=tuple(self.decision(each, degraded) for each in found.others),
        )
