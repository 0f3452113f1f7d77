"""The flow of one paced call: wait for a turn, send, record what the response reports."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from math import inf
from typing import Any, Final, TypeAlias

from flexmw.contract import wait_of
from flexmw.kit.clock import Clock
from flexmw.kit.effects import DEADLINE, Effect, Flow, Request, Response, RunBlocking, Send, Sleep
from flexmw.kit.evidence import Evidence
from flexmw.pace.core import InFlight, PaceState
from flexmw.pace.headers import server_time
from flexmw.pace.redis import SharedState
from flexmw.pace.registry import PaceRegistry, caller_of

__all__ = ["PacedCall"]

_REFUSALS: Final = (429, 503)

Turn: TypeAlias = tuple[float, InFlight | None]
"""The seconds to wait before the next question, or 0.0 and the request that has been recorded as sent."""


class PacedCall:
    """One call of one request.

    :param max_wait: seconds; if a limit frees up later than that, the request is sent without waiting.
    """

    __slots__ = ("_caller", "_clock", "_max_wait", "_registry", "_request")

    def __init__(self, request: Request, registry: PaceRegistry, *, max_wait: float, clock: Clock) -> None:
        self._request, self._registry = request, registry
        self._max_wait, self._clock = max_wait, clock
        self._caller = caller_of(request)

    def run(self) -> Flow:
        """Wait for a turn, send the request, record the response or the failure."""
        flight = yield from self._wait_for_turn()
        evidence = Evidence()
        sent_at = self._clock.now()
        try:
            response: Response = yield Send(self._request, evidence.observe)
        except BaseException:
            self._fail(flight, unsent=evidence.sent is False)
            raise
        yield from self._finish(flight, response, sent_at)
        return response

    def _wait_for_turn(self) -> Generator[Effect, Any, InFlight]:
        max_wait = self._max_wait
        while True:
            wait, flight = yield from self._enter(max_wait)
            if flight is not None:
                return flight
            max_wait = min(max_wait, self._request.extensions.get(DEADLINE, inf) - self._clock.monotonic())
            if wait <= max_wait:
                yield Sleep(wait)

    def _enter(self, max_wait: float) -> Generator[Effect, Any, Turn]:
        def enter(state: PaceState, now: float) -> Turn:
            wait = state.wait(now)
            return (wait, None) if 0 < wait <= max_wait else (0.0, state.start(now))

        if self._registry.is_shared:
            shared = self._registry.shared(self._caller)
            if (wait := shared.known_wait) and wait <= max_wait:
                return wait, None
            entry = _SharedEntry(shared, enter)
            try:
                turn: Turn = yield RunBlocking(entry.run)
            except BaseException:
                entry.abandon()
                raise
            return turn
        state, lock = self._registry.local(self._caller)
        with lock:
            return enter(state, self._clock.monotonic())

    def _finish(self, flight: InFlight, response: Response, sent_at: float) -> Generator[Effect, Any, None]:
        arrived = self._clock.monotonic()
        headers = {name.lower(): value for name, value in response.headers.items()}
        received_at = self._clock.now()
        reading, retry_after = self._registry.read(self._caller, headers, sent_at, received_at), None
        if response.status_code in _REFUSALS:
            wait = wait_of(headers, now=server_time(headers, sent_at, received_at))
            retry_after = None if wait is None else wait.seconds

        def finish(state: PaceState, now: float) -> None:
            delay = self._clock.monotonic() - arrived  # a shared state may be changed much later
            shifted = None if reading is None else reading._replace(reset_earliest=reading.reset_earliest - delay)
            state.finish(flight, now=now, reading=shifted, retry_after=retry_after)

        if self._registry.is_shared:
            shared = self._registry.shared(self._caller)
            yield RunBlocking(lambda: shared.record(finish))
            return
        state, lock = self._registry.local(self._caller)
        with lock:
            finish(state, self._clock.monotonic())

    def _fail(self, flight: InFlight, *, unsent: bool) -> None:
        """Record a failure without an effect: a call that is cancelled or closed cannot wait for a store."""

        def fail(state: PaceState, now: float) -> None:
            state.fail(flight, now=now, unsent=unsent)

        if self._registry.is_shared:
            self._registry.shared(self._caller).record_later(fail)
            return
        state, lock = self._registry.local(self._caller)
        with lock:
            fail(state, self._clock.monotonic())


class _SharedEntry:
    """A question to the store for a turn, which a worker thread asks. The call may be cancelled before the store has
    responded; a turn that comes after that is given back."""

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
