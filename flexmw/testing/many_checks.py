"""The checks of a store of idempotency keys that also writes several keys by one call.

A store may have one more method, ``extend_many`` or ``swap_pair``, or both. Without them flexmw calls ``extend`` and
``swap`` once for each key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from flexmw.idempotency.stores import Held, ManyLeases, Store, Swap, SwapPairs
from flexmw.testing.log_checks import LONG, demand, put

__all__ = ["many_checks"]

Check = Callable[[Store, str], Awaitable[None]]


def many_checks(store: Store) -> tuple[Check, ...]:
    """The checks of the methods that a store has."""
    return tuple(check for protocol, check in _CHECKS if isinstance(store, protocol))


async def _renews_many_leases(store: Store, key: str) -> None:
    assert isinstance(store, ManyLeases)
    names = [f"{key}{number}" for number in range(3)]
    for name in names:
        await store.swap(name, "", "a", b"x", lease=1.0, ttl=LONG)
    leases = [(names[0], "a", LONG, LONG), (names[1], "b", LONG, LONG), (f"{key}none", "a", LONG, LONG)]
    renewed = list(await store.extend_many([*leases, (names[2], "a", LONG, LONG)]))
    demand(renewed == [True, False, False, True], "extend_many() must say of each lease, in order, whether it is held")
    held = [await store.load(name) for name in names]
    left = [0.0 if one is None else one.lease for one in held]
    demand(left[0] > 1.0 and left[2] > 1.0, "extend_many() must renew each lease that is held")
    demand(left[1] <= 1.0, "extend_many() must not renew the lease of another token")
    demand(list(await store.extend_many([])) == [], "extend_many() of nothing must return nothing")


async def _swaps_a_pair(store: Store, key: str) -> None:
    assert isinstance(store, SwapPairs)
    one, two = f"{key}one", f"{key}two"

    def tokens(held: tuple[Held | None, Held | None]) -> list[str | None]:
        return [None if entry is None else entry.token for entry in held]

    def swap(name: str, expected: str, token: str) -> Swap:
        return Swap(name, expected, token, b"x", LONG, LONG)

    pair = swap(one, "", "a"), swap(two, "", "a")
    for _ in range(2):
        demand(tokens(await store.swap_pair(*pair)) == ["a", "a"], "swap_pair() must write both, and may be repeated")
    refused = await store.swap_pair(swap(one, "", "b"), swap(f"{key}new", "", "b"))
    demand(tokens(refused) == ["a", None], "swap_pair() must return what is held where the first write is refused")
    demand(await store.load(f"{key}new") is None, "swap_pair() must not write the second key without the first one")
    half = await store.swap_pair(swap(one, "a", "c"), swap(two, "", "c"))
    demand(tokens(half) == ["c", "a"], "swap_pair() must write the first key also where the second write is refused")
    await put(store, f"{key}three")
    both = await store.swap_pair(swap(f"{key}three", "a", "d"), swap(two, "a", "d"))
    demand(tokens(both) == ["d", "d"], "swap_pair() must write where both expected tokens are held")


_CHECKS: Final[tuple[tuple[type, Check], ...]] = ((ManyLeases, _renews_many_leases), (SwapPairs, _swaps_a_pair))
