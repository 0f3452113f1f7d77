"""Turn in a shared store: a worker thread asks the store, and gives the turn back if the call was cancelled
meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, TypeAlias

from flexmw.kit.effects import Effect, Emit
from flexmw.kit.events import PaceStoreOperated
from flexmw.pace.core import InFlight, PaceState
from flexmw.pace.redis import SharedState

__all__ = ["SharedTurn", "Turn", "emit_operations"]

Turn: TypeAlias = tuple[float, InFlight | None]
"""The seconds to wait before asking again, and ``None``; or 0.0 and the request, which is recorded as sent."""


class SharedTurn:
    """One request for a turn. A worker thread calls :meth:`run`; the cancelled call calls :meth:`abandon`.

    :param enter: asks a state for a turn; see :meth:`flexmw.pace.redis.SharedState.enter`.
    """

    __slots__ = ("_abandoned", "_enter", "_flights", "_shared")

    def __init__(self, shared: SharedState, enter: Callable[[PaceState, float], Turn]) -> None:
        self._shared, self._enter = shared, enter
        self._abandoned = False
        self._flights: list[InFlight] = []

    def run(self) -> Turn:
        wait, flight = self._shared.enter(self._enter)
        if flight is not None:
            self._flights.append(flight)
            if self._abandoned:
                self._give_back()
        return wait, flight

    def abandon(self) -> None:
        self._abandoned = True
        self._give_back()

    def _give_back(self) -> None:
        with suppress(IndexError):  # both threads may be here at once: one of them finds the flight
            flight = self._flights.pop()
            self._shared.record_later(lambda state, now: state.fail(flight, now=now, unsent=True))


def emit_operations(shared: SharedState) -> Generator[Effect, Any, None]:
    """Emit an event for each operation on the store since the last call. Calls with the same bucket share the list."""
    for seconds, error_type in shared.take_operations():
        operated: PaceStoreOperated = {"seconds": seconds, "error_type": error_type}
        yield Emit("flexmw.pace.store_operated", operated)
