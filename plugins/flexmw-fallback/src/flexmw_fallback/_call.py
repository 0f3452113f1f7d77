"""One call as a flow: ask an upstream, look the result up, ask the next one or give back.

The flow uses no thread, no event loop and no client library; flexmw runs it on all four clients. Retry runs inside,
once for each time that an upstream is asked, and says what is known of the result.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any, Final

import flexmw
from flexmw.contract import parse_retry_count, wait_of
from flexmw.retry import call_ends, deadline_of, limit_attempts, rewinder, set_outcome
from flexmw_fallback._circuits import Circuit, CircuitState, Entry
from flexmw_fallback._core import Failure, Verdict, best, first_by_share, judge, says
from flexmw_fallback._credentials import KEY, digest_of
from flexmw_fallback._options import FallbackOptions
from flexmw_fallback._outcome import FallbackOutcome, Tried
from flexmw_fallback._preamble import hold_back, is_readable
from flexmw_fallback._requests import request_for, with_key
from flexmw_fallback._responses import LOGGER, keep, made_refusal, peek, without_side_effects

__all__ = ["FallbackCall"]

SWITCHED: Final = "flexmw.fallback.switched"
PATIENCE: Final = 90.0
"""Without a deadline a call waits for cooling upstreams for so many seconds at most, or for ``max_retry_after``."""
JITTER: Final = 0.5
"""Largest random addition to a wait, in seconds, so that waiting calls do not come back all at once."""

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"})
_CONNECTS: Final = frozenset({"connection.connect_tcp.started", "connection.connect_unix_socket.started"})
_HEADS: Final = frozenset({"http11.send_request_headers.started", "http2.send_request_headers.started"})
_REPORTS: Final = ("connection.", "http11.", "http2.", "proxy.", "socks.")
_OUTCOME_FIELDS: Final = tuple(each.name for each in fields(flexmw.Outcome))


class _Cooled(Exception):
    """The circuit of the upstream has opened while the request waited for a connection. Nothing was sent."""


@dataclass(slots=True)
class _Result:
    """What one upstream has made of the call: a response or an error, and what Retry says of it."""

    place: int
    verdict: Verdict
    outcome: flexmw.Outcome
    seconds: float
    response: Any = None
    error: Exception | None = None
    wait: float | None = None

    @property
    def why(self) -> str:
        return str(self.verdict.status) if self.error is None else type(self.error).__name__


class _Transport:
    """Observes the transport while one upstream is asked.

    :ivar may_have_left: whether a head went out, as far as the transport says anything.
    """

    def __init__(self, call: FallbackCall, place: int, entry: Entry | None) -> None:
        self._call, self._place = call, place
        self._rechecks = entry is not None and not entry.probe
        self._reported = self._head = False

    @property
    def may_have_left(self) -> bool:
        return self._head or not self._reported

    def observe(self, event: str, details: Mapping[str, Any]) -> None:
        """Keep a request from a circuit that has opened while the request waited for a connection.

        Only before the first head: the Retry inside may be resolving what an earlier attempt has left open.

        :raises _Cooled: another upstream takes the call now.
        """
        self._reported = self._reported or event.startswith(_REPORTS)
        is_head = event in _HEADS
        if self._rechecks and not self._head and (is_head or event in _CONNECTS):
            call, place = self._call, self._place
            if call.circuit(place).state(call.clock.monotonic()).wait and call.another_is_open(place):
                raise _Cooled
        self._head = self._head or is_head


class FallbackCall:
    """One call, whatever the number of upstreams that it asks.

    :param path: the path below the URL of the first upstream.
    """

    def __init__(self, options: FallbackOptions, request: Any, path: str) -> None:
        self.options, self.request, self.path = options, request, path
        self.upstreams = options.upstreams
        self.clock = options.clock
        self.began = self.clock.monotonic()
        self.safe = request.method in SAFE_METHODS
        self.sdk_count = parse_retry_count(request.headers.get("x-stainless-retry-count"))
        self.ends = None if options.deadline is None else deadline_of(request, options.deadline, self.began)
        self.tried: list[Tried] = []
        self.maybe_billed: list[str] = []
        self.why = ""
        """What became of the upstream that was asked last: a status, or the class of an error."""
        self.failures: list[_Result] = []
        self.attempts = 0
        self.waited = 0.0
        self.visited: set[int] = set()
        self.keys: dict[int, str] = {}
        self.rewind = rewinder(request.stream)
        self.body_left = False
        self.requests: dict[int, Any] = {}
        self.circuits: dict[int, Circuit] = {}
        for place, upstream in enumerate(self.upstreams):
            if upstream.rewrite is not None:
                self._request(place)

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

    def flow(self) -> flexmw.Flow:
        try:
            if self.pinned is not None:
                result = yield from self._ask(self.pinned, None)
                return (yield from self._return(result))
            while True:
                entered = self._enter()
                if entered is None:
                    wait = self._wait()
                    if wait is None:
                        return (yield from self._finish())
                    yield flexmw.Sleep(wait)
                    self.waited += wait
                    self.visited.clear()
                    continue
                place, entry = entered
                yield from self._switch(place)
                try:
                    result = yield from self._ask(place, entry)
                except _Cooled:
                    continue
                action = judge(result.verdict, permit="ambiguous" in self.options.permit)
                if action == "give_back":
                    yield from self._discard_failures()
                    return (yield from self._return(result))
                yield from self._put_by(result, may_be_billed=action == "next_maybe_billed")
                if action == "finish" or not self._can_repeat():
                    return (yield from self._finish())
        finally:
            limit_attempts(self.request)

    def _enter(self) -> tuple[int, Entry] | None:
        """The next upstream that takes the call now, and the call's entry to its circuit."""
        now = self.clock.monotonic()
        if self.attempts >= self.options.max_attempts or (self.tried and now >= self._latest()):
            return None
        for place in self.order:
            if place not in self.visited and (entry := self.circuit(place).enter(now)) is not None:
                self.visited.add(place)
                return place, entry
        return None

    def _request(self, place: int) -> Any:
        request = self.requests.get(place)
        if request is None:
            request = request_for(self.upstreams[place], self.request, self.path, own=place == 0)
            # One dictionary for all: what Retry notes of the call, such as its deadline, holds for each upstream.
            request.extensions = self.request.extensions
            self.requests[place] = request
        return request

    def circuit(self, place: int) -> Circuit:
        """The circuit of an upstream and of the credentials that this call sends to it."""
        circuit = self.circuits.get(place)
        if circuit is None:
            key = (self.upstreams[place].url, digest_of(self._request(place).headers.multi_items()))
            circuit = self.options.circuits.of(key, self.options.circuit_options)
            self.circuits[place] = circuit
        return circuit

    def _states(self) -> list[tuple[int, CircuitState]]:
        now = self.clock.monotonic()
        return [(place, self.circuit(place).state(now)) for place in self.order]

    def _limit(self, place: int, request: Any) -> None:
        """Bound the Retry inside: a failure comes back at once while another upstream may do better."""
        others = [(other, state) for other, state in self._states() if other != place]
        is_open = any(state.wait == 0 and other not in self.visited for other, state in others)
        is_waited_for = any(0 < state.wait <= self.options.max_retry_after and state.named for _, state in others)
        hand_back: list[Any] = []
        if self.pinned is None and (is_open or is_waited_for):
            hand_back = ["unsent", "refused", *(("ambiguous",) if self.safe and is_open else ())]
        left = max(1, self.options.max_attempts - self.attempts)
        limit_attempts(request, attempts=left, hand_back=hand_back, earlier=self.attempts, ends=self.ends)

    def _ask(self, place: int, entry: Entry | None) -> Generator[flexmw.Effect, Any, _Result]:
        """Send the call to one upstream, and say what became of it.

        :param entry: the call's entry to the circuit; ``None`` where the circuit is not asked.
        :raises _Cooled: the circuit has opened before the request has left, and another upstream takes the call.
        """
        request, circuit, began = self._request(place), self.circuit(place), self.clock.monotonic()
        if self.tried and self.rewind is not None:
            self.rewind()
        key = self.keys.get(place)
        if key is not None and KEY not in request.headers:
            request = with_key(request, key)
            request.extensions = self.request.extensions
        self._limit(place, request)
        event: Any = "neutral"
        wait, named, status = None, True, None
        transport = _Transport(self, place, entry)
        try:
            try:
                response = yield flexmw.Send(request, transport.observe)
            except Exception as error:
                result = self._of_error(place, error, began)
                if result is None:
                    raise
            else:
                result = yield from self._of_response(place, request, response, began)
            event = says(result.verdict, None if result.error is None else type(result.error).__name__)
            status = result.verdict.status
            if result.verdict.outcome == "refused" and result.wait is not None:
                longest = self.options.max_retry_after
                wait, named = min(result.wait, longest), result.wait <= longest
        finally:
            self.body_left = self.body_left or transport.may_have_left
            if entry is not None:
                circuit.leave(entry, event, self.clock.monotonic(), wait=wait, named=named, status=status)
        outcome = result.outcome
        self.attempts += outcome.attempts
        self.waited += outcome.waited
        if outcome.key is not None and KEY not in self.request.headers:
            self.keys[place] = outcome.key
        origin = self.upstreams[place].origin
        self.why = result.why
        self.tried.append(Tried(origin, result.verdict.outcome, result.verdict.status, result.seconds))
        return result

    def another_is_open(self, place: int) -> bool:
        """Whether an upstream that this call has not asked takes the call now."""
        return any(other not in self.visited and other != place and not state.wait for other, state in self._states())

    def _of_error(self, place: int, error: Exception, began: float) -> _Result | None:
        """The result that an error stands for; ``None`` where Retry has said nothing of it."""
        outcome = getattr(error, "flexmw", None)
        if not isinstance(outcome, flexmw.Outcome):
            return None
        verdict = Verdict(outcome.outcome, outcome.reason, None, self.safe)
        return _Result(place, verdict, outcome, self.clock.monotonic() - began, error=error)

    def _of_response(
        self, place: int, request: Any, response: Any, began: float
    ) -> Generator[flexmw.Effect, Any, _Result]:
        outcome = response.extensions.get("flexmw")
        status: int = response.status_code
        if not isinstance(outcome, flexmw.Outcome):
            _warn_no_verdict()
            outcome = flexmw.Outcome("answered", 1)
        verdict = Verdict(outcome.outcome, outcome.reason, status, self.safe)
        is_refused = status in self.options.also
        if not is_refused and self.options.refusal is not None and status >= 400 and outcome.attempts == 1:
            response, body = yield from peek(response, request)
            is_refused = bool(self.options.refusal(status, response.headers, body))
        if not is_refused and status < 300 and self.options.preamble is not None:
            try:
                is_refused = yield from self._begins_with_refusal(response)
            except Exception as error:
                return self._of_broken_body(place, error, began)
        if is_refused and outcome.attempts == 1 and verdict.outcome != "unsent":
            verdict = Verdict("refused", None, status, self.safe)
        asked = None if verdict.outcome != "refused" else wait_of(response.headers, now=self.clock.now())
        seconds = self.clock.monotonic() - began
        return _Result(place, verdict, outcome, seconds, response, wait=None if asked is None else asked.seconds)

    def _of_broken_body(self, place: int, error: Exception, began: float) -> _Result:
        """The result of a good response whose body broke while it was held back.

        :raises Exception: the error, where Retry has said nothing of it.
        """
        result = self._of_error(place, error, began)
        if result is None:
            raise error
        result.verdict = Verdict("ambiguous", "body_broken", None, self.safe)
        return result

    def _begins_with_refusal(self, response: Any) -> Generator[flexmw.Effect, Any, bool]:
        preamble = self.options.preamble
        if preamble is None or not is_readable(response):
            return False
        return (yield from hold_back(response, preamble))

    def _put_by(self, result: _Result, *, may_be_billed: bool) -> Generator[flexmw.Effect, Any, None]:
        """Keep a failure for the case that no upstream does better."""
        origin = self.upstreams[result.place].origin
        if may_be_billed:
            self.maybe_billed.append(origin)
        if result.response is not None:
            if result.response.status_code < 300:  # refused by its preamble: no failure that a caller could read
                yield flexmw.Discard(result.response)
                return
            result.response = yield from keep(result.response, self._request(result.place))
        self.failures.append(result)

    def _can_repeat(self) -> bool:
        """Whether the request can be sent again: its body is held in memory, can be rewound, or was not begun."""
        return self.rewind is not None or not self.body_left

    def _wait(self) -> float | None:
        """Seconds until an upstream takes the call that takes none now; ``None`` where the call does not wait."""
        if self.sdk_count or self.attempts >= self.options.max_attempts:
            return None
        waits = [state.wait for _, state in self._states() if state.wait and state.named]
        if not waits or min(waits) > self.options.max_retry_after:
            return None
        wait = min(waits) + JITTER * self.options.random()
        return None if self.clock.monotonic() + wait >= self._latest() else wait

    def _latest(self) -> float:
        """The moment, in monotonic seconds, after which this call asks no further upstream."""
        ends = call_ends(self.request) if self.ends is None else self.ends
        return self.began + max(PATIENCE, self.options.max_retry_after) if ends is None else ends

    def _finish(self) -> flexmw.Flow:
        """Give back the failure that helps the caller most."""
        if not self.failures:
            return (yield from self._refuse())
        failures = [Failure(each.response is not None, each.wait) for each in self.failures]
        result = self.failures.pop(best(failures))
        yield from self._discard_failures()
        return (yield from self._return(result))

    def _refuse(self) -> flexmw.Flow:
        """A refusal of a call that no upstream takes."""
        place, state = min(self._states(), key=lambda item: item[1].wait)
        response = made_refusal(self.request, state.status, state.wait)
        LOGGER.warning(
            "%s %s: no upstream takes calls for another %.1f s; nothing was sent",
            self.request.method,
            self.upstreams[place].origin,
            state.wait,
        )
        set_outcome(response, self._outcome(flexmw.Outcome("refused", 0, reason="all_cooling", row="refused"), None))
        return (yield from flexmw.follow(response, _ignore))

    def _discard_failures(self) -> Generator[flexmw.Effect, Any, None]:
        for failure in self.failures:
            if failure.response is not None:
                yield flexmw.Discard(failure.response)
        self.failures.clear()

    def _outcome(self, known: flexmw.Outcome, place: int | None, outcome: str | None = None) -> FallbackOutcome:
        values: dict[str, Any] = {name: getattr(known, name) for name in _OUTCOME_FIELDS}
        values.update(attempts=self.attempts, waited=self.waited)
        if outcome is not None:
            values["outcome"] = outcome
        if self.maybe_billed and values["outcome"] in ("unsent", "refused"):
            values["outcome"] = "ambiguous"
        return FallbackOutcome(
            **values,
            upstream=None if place is None else self.upstreams[place].origin,
            tried=tuple(self.tried),
            maybe_billed=tuple(self.maybe_billed),
        )

    def _switch(self, place: int) -> Generator[flexmw.Effect, Any, None]:
        """Say that the call goes to another upstream than the one before, or than the first one of its order."""
        if self.tried:
            origin, why = self.tried[-1].origin, self.why
        elif place != self.order[0]:
            origin, why = self.upstreams[self.order[0]].origin, "cooling"
        else:
            return
        target = self.upstreams[place].origin
        LOGGER.info("%s %s: %s; the call goes to %s", self.request.method, origin, why, target)
        yield flexmw.Emit(SWITCHED, {"from": origin, "to": target, "why": why})

    def _return(self, result: _Result) -> flexmw.Flow:
        """Give the caller a response, or raise the error, with the outcome of the whole call."""
        outcome = self._outcome(result.outcome, result.place, result.verdict.outcome)
        if outcome.outcome == "ambiguous" and self.sdk_count is not None and not self.safe:
            self.options.given_back.remember(self.request, result.place, self.clock.monotonic())
        if result.error is not None:
            set_outcome(result.error, outcome)
            raise result.error
        response = result.response
        set_outcome(response, outcome)
        if result.place:
            without_side_effects(response, self.upstreams[result.place].origin)

        def body_ended(error: BaseException | None) -> None:
            known = getattr(error, "flexmw", None)
            if error is not None and isinstance(known, flexmw.Outcome):
                set_outcome(error, self._outcome(known, result.place))

        return (yield from flexmw.follow(response, body_ended))


def _ignore(error: BaseException | None) -> None:
    """The end of a body that is in memory."""


@lru_cache(maxsize=1)
def _warn_no_verdict() -> None:
    LOGGER.warning(
        "a response has no outcome of a Retry, so nothing is known of the request and no call goes on: "
        "put flexmw.Retry() inside Fallback, and leave it switched on for the call"
    )
