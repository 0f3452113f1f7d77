"""The upstreams of one call: in which order it asks them, with which requests, and which of them take it now."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

from flexmw.retry import call_ends, deadline_of, limit_attempts, sdk_retry_count
from flexmw_fallback._circuits import Circuit, CircuitState, Entry
from flexmw_fallback._core import SAFE_METHODS, first_by_share
from flexmw_fallback._credentials import digest_of
from flexmw_fallback._options import FallbackOptions
from flexmw_fallback._requests import request_for

__all__ = ["Targets"]

PATIENCE: Final = 90.0
"""Without a deadline a call waits for cooling upstreams for so many seconds at most, or for ``max_retry_after``."""
JITTER: Final = 0.5
"""Largest random addition to a wait, in seconds, so that waiting calls do not come back all at once."""


class Targets:
    """The upstreams as one call sees them.

    :param path: the path below the URL of the first upstream.
    :ivar visited: the places of the upstreams that the call has asked since it waited last.
    :ivar attempts: requests that were sent so far, over all upstreams.
    :raises flexmw.ConfigError: ``rewrite`` or ``headers`` of an upstream cannot be used for the request.
    """

    def __init__(self, options: FallbackOptions, request: Any, path: str) -> None:
        self.options, self.request, self.path = options, request, path
        self.upstreams = options.upstreams
        self.clock = options.clock
        self.began = self.clock.monotonic()
        self.safe = request.method in SAFE_METHODS
        self.sdk_count = sdk_retry_count(request)
        self.ends = None if options.deadline is None else deadline_of(request, options.deadline, self.began)
        self.visited: set[int] = set()
        self.attempts = 0
        self._requests: dict[int, Any] = {}
        self._circuits: dict[int, Circuit] = {}
        for place, upstream in enumerate(self.upstreams):
            if upstream.rewrite is not None:
                self.request_to(place)

    @cached_property
    def order(self) -> list[int]:
        """The places of the upstreams, in the order in which this call asks them."""
        places = list(range(len(self.upstreams)))
        if self.options.split_by is not None and (caller := self.options.split_by(self.request)):
            chosen = first_by_share(caller, self.options.shares)
            places.sort(key=lambda place: place != chosen)
        return places

    @cached_property
    def pinned(self) -> int | None:
        """The only upstream that this call may ask: an SDK repeats a call that this upstream may have executed."""
        if not self.sdk_count or self.safe:
            return None
        return self.options.given_back.find(self.request, self.began)

    def enter(self) -> tuple[int, Entry] | None:
        """The next upstream that takes the call now, and the call's entry to its circuit."""
        now = self.clock.monotonic()
        if self.attempts >= self.options.max_attempts or (self.attempts and now >= self._latest()):
            return None
        for place in self.order:
            if place not in self.visited and (entry := self.circuit(place).enter(now)) is not None:
                self.visited.add(place)
                return place, entry
        return None

    def request_to(self, place: int) -> Any:
        """The call's request to one upstream."""
        request = self._requests.get(place)
        if request is None:
            request = request_for(self.upstreams[place], self.request, self.path, own=place == 0)
            # One dictionary for all: what Retry notes of the call, such as its deadline, holds for each upstream.
            request.extensions = self.request.extensions
            self._requests[place] = request
        return request

    def circuit(self, place: int) -> Circuit:
        """The circuit of an upstream and of the credentials that this call sends to it."""
        circuit = self._circuits.get(place)
        if circuit is None:
            key = (self.upstreams[place].url, digest_of(self.request_to(place).headers.multi_items()))
            circuit = self.options.circuits.of(key, self.options.circuit_options)
            self._circuits[place] = circuit
        return circuit

    def states(self) -> list[tuple[int, CircuitState]]:
        """The places of the upstreams in the call's order, and what their circuits say."""
        now = self.clock.monotonic()
        return [(place, self.circuit(place).state(now)) for place in self.order]

    def another_is_open(self, place: int) -> bool:
        """Whether an upstream that this call has not asked takes the call now."""
        return any(other not in self.visited and other != place and not state.wait for other, state in self.states())

    def limit(self, place: int, request: Any) -> None:
        """Bound the Retry inside: a failure comes back at once while another upstream may do better."""
        others = [(other, state) for other, state in self.states() if other != place]
        is_open = any(state.wait == 0 and other not in self.visited for other, state in others)
        is_waited_for = any(0 < state.wait <= self.options.max_retry_after and state.named for _, state in others)
        hand_back: list[Any] = []
        if self.pinned is None and (is_open or is_waited_for):
            hand_back = ["unsent", "refused", *(("ambiguous",) if self.safe and is_open else ())]
        left = max(1, self.options.max_attempts - self.attempts)
        limit_attempts(request, attempts=left, hand_back=hand_back, earlier=self.attempts, ends=self.ends)

    def wait(self) -> float | None:
        """Seconds until an upstream takes the call that takes none now; ``None`` where the call does not wait."""
        if self.sdk_count or self.attempts >= self.options.max_attempts:
            return None
        waits = [state.wait for _, state in self.states() if state.wait and state.named]
        if not waits or min(waits) > self.options.max_retry_after:
            return None
        wait = min(waits) + JITTER * self.options.random()
        return None if self.clock.monotonic() + wait >= self._latest() else wait

    def _latest(self) -> float:
        """The moment, in monotonic seconds, after which this call asks no further upstream."""
        ends = call_ends(self.request) if self.ends is None else self.ends
        return self.began + max(PATIENCE, self.options.max_retry_after) if ends is None else ends
