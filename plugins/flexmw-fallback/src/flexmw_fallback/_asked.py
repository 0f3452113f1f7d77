"""One upstream is asked: what is sent to it, what becomes of it, and what its circuit learns."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import flexmw
from flexmw.contract import read_limits, wait_of
from flexmw.retry import rewinder
from flexmw_fallback._circuits import Entry
from flexmw_fallback._core import Verdict, health_of
from flexmw_fallback._credentials import KEY
from flexmw_fallback._options import FallbackOptions
from flexmw_fallback._outcome import Tried
from flexmw_fallback._preamble import hold_back, is_readable
from flexmw_fallback._requests import with_key
from flexmw_fallback._responses import LOGGER, peek
from flexmw_fallback._targets import Targets

__all__ = ["Asking", "Cooled", "Result"]

SWITCHED: Final = "flexmw.fallback.switched"

_CONNECTS: Final = frozenset({"connection.connect_tcp.started", "connection.connect_unix_socket.started"})
_HEADS: Final = frozenset({"http11.send_request_headers.started", "http2.send_request_headers.started"})
_REPORTS: Final = ("connection.", "http11.", "http2.", "proxy.", "socks.")


class Cooled(Exception):
    """The circuit of the upstream has opened while the request waited for a connection. Nothing was sent."""


@dataclass(slots=True)
class Result:
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

    def __init__(self, call: Targets, place: int, entry: Entry | None) -> None:
        self._call, self._place = call, place
        self._rechecks = entry is not None and not entry.probe
        self._reported = self._head = False

    @property
    def may_have_left(self) -> bool:
        return self._head or not self._reported

    def observe(self, event: str, details: Mapping[str, Any]) -> None:
        """Keep a request from a circuit that has opened while the request waited for a connection.

        Only before the first head: the Retry inside may be resolving what an earlier attempt has left open.

        :raises Cooled: another upstream takes the call now.
        """
        self._reported = self._reported or event.startswith(_REPORTS)
        is_head = event in _HEADS
        if self._rechecks and not self._head and (is_head or event in _CONNECTS):
            call, place = self._call, self._place
            if call.circuit(place).state(call.clock.monotonic()).wait and call.another_is_open(place):
                raise Cooled
        self._head = self._head or is_head


class Asking(Targets):
    """A call that asks its upstreams, one at a time.

    :ivar rewind: rewinds the body of the request; ``None`` where it can be read once.
    :ivar body_left: whether a part of that body may have been sent.
    """

    def __init__(self, options: FallbackOptions, request: Any, path: str) -> None:
        super().__init__(options, request, path)
        self.rewind = rewinder(request.stream)
        self.body_left = False
        self.tried: list[Tried] = []
        self.waited = 0.0
        self.why = ""
        """What became of the upstream that was asked last: a status, or the class of an error."""
        self._keys: dict[int, str] = {}

    @property
    def can_repeat(self) -> bool:
        """Whether the request can be sent again: its body is held in memory, can be rewound, or was not begun."""
        return self.rewind is not None or not self.body_left

    def ask(self, place: int, entry: Entry | None) -> Generator[flexmw.Effect, Any, Result]:
        """Send the call to one upstream, and say what became of it.

        :param entry: the call's entry to the circuit; ``None`` where the circuit is not asked.
        :raises Cooled: the circuit has opened before the request has left, and another upstream takes the call.
        """
        request, circuit, began = self.request_to(place), self.circuit(place), self.clock.monotonic()
        if self.attempts and self.rewind is not None:
            self.rewind()
        key = self._keys.get(place)
        if key is not None and KEY not in request.headers:
            request = with_key(request, key)
            request.extensions = self.request.extensions
        self.limit(place, request)
        event: Any = "neutral"
        wait, named, status = None, True, None
        transport = _Transport(self, place, entry)
        try:
            yield from self._switch(place)
            try:
                response = yield flexmw.Send(request, transport.observe)
            except Exception as error:
                result = self._of_error(place, error, began)
                if result is None:
                    raise
            else:
                result = yield from self._of_response(place, request, response, began)
            event = health_of(result.verdict, None if result.error is None else type(result.error).__name__)
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
            self._keys[place] = outcome.key
        origin = self.upstreams[place].origin
        self.why = result.why
        self.tried.append(Tried(origin, result.verdict.outcome, result.verdict.status, result.seconds))
        return result

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

    def _of_error(self, place: int, error: Exception, began: float) -> Result | None:
        """The result that an error stands for; ``None`` where Retry has said nothing of it."""
        outcome = getattr(error, "flexmw", None)
        if not isinstance(outcome, flexmw.Outcome):
            return None
        verdict = Verdict(outcome.outcome, outcome.reason, None, self.safe)
        return Result(place, verdict, outcome, self.clock.monotonic() - began, error=error)

    def _of_response(
        self, place: int, request: Any, response: Any, began: float
    ) -> Generator[flexmw.Effect, Any, Result]:
        outcome = response.extensions.get("flexmw")
        status: int = response.status_code
        if not isinstance(outcome, flexmw.Outcome):
            _warn_no_verdict(self.options.warned)
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
        wait = self._wait_of(response) if verdict.outcome == "refused" else None
        return Result(place, verdict, outcome, self.clock.monotonic() - began, response, wait=wait)

    def _wait_of(self, response: Any) -> float | None:
        """The seconds that a refusal asks for.

        The reset of a limit is such a wait only where the limit has refused: many servers send it with each response,
        an overload (529) among them.
        """
        headers, now = response.headers, self.clock.now()
        is_used_up = any(limit.remaining == 0 for limit in read_limits(headers, now=now))
        wait = wait_of(headers, now=now, status=429 if is_used_up else response.status_code)
        return None if wait is None else wait.seconds

    def _of_broken_body(self, place: int, error: Exception, began: float) -> Result:
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


def _warn_no_verdict(warned: set[str]) -> None:
    """Say once for each Fallback that it has nothing to decide by."""
    if "verdict" not in warned:
        warned.add("verdict")
        LOGGER.warning(
            "a response has no outcome of a Retry, so nothing is known of the request and no call goes on: "
            "put flexmw.Retry() inside Fallback, and leave it switched on for the call"
        )
