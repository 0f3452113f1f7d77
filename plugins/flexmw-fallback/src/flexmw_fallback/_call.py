"""One call as a flow: ask an upstream, look the result up, ask the next one or give back.

The flow uses no thread, no event loop and no client library; flexmw runs it on all four clients. Retry runs inside,
once for each time that an upstream is asked, and says what is known of the result.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import fields
from typing import Any, Final

import flexmw
from flexmw.retry import limit_attempts, set_outcome
from flexmw_fallback._asked import Asking, Cooled, Result
from flexmw_fallback._core import Failure, best, judge
from flexmw_fallback._options import FallbackOptions
from flexmw_fallback._outcome import FallbackOutcome
from flexmw_fallback._responses import LOGGER, keep, made_refusal, without_side_effects

__all__ = ["FallbackCall"]

_OUTCOME_FIELDS: Final = tuple(field.name for field in fields(flexmw.Outcome))


class FallbackCall(Asking):
    """One call, whatever the number of upstreams that it asks."""

    def __init__(self, options: FallbackOptions, request: Any, path: str) -> None:
        super().__init__(options, request, path)
        self.maybe_billed: list[str] = []
        self.failures: list[Result] = []

    def flow(self) -> flexmw.Flow:
        try:
            if self.pinned is not None:
                result = yield from self.ask(self.pinned, None)
                return (yield from self._return(result))
            while True:
                entered = self.enter()
                if entered is None:
                    wait = self.wait()
                    if wait is None:
                        return (yield from self._finish())
                    yield flexmw.Sleep(wait)
                    self.waited += wait
                    self.visited.clear()
                    continue
                place, entry = entered
                try:
                    result = yield from self.ask(place, entry)
                except Cooled:
                    continue
                action = judge(result.verdict, permit="ambiguous" in self.options.permit)
                if action == "give_back":
                    yield from self._discard_failures()
                    return (yield from self._return(result))
                yield from self._put_by(result, may_be_billed=action == "next_maybe_billed")
                if action == "finish" or not self.can_repeat:
                    return (yield from self._finish())
        finally:
            limit_attempts(self.request)

    def _put_by(self, result: Result, *, may_be_billed: bool) -> Generator[flexmw.Effect, Any, None]:
        """Keep a failure for the case that no upstream does better."""
        origin = self.upstreams[result.place].origin
        if may_be_billed:
            self.maybe_billed.append(origin)
        if result.response is not None:
            result.response = yield from keep(result.response, self.request_to(result.place))
        if result.response is not None or result.error is not None:
            self.failures.append(result)

    def _finish(self) -> flexmw.Flow:
        """Give back the failure that helps the caller most."""
        if not self.failures:
            return (yield from self._refuse())
        failures = [Failure(failed.verdict.status, failed.wait) for failed in self.failures]
        result = self.failures.pop(best(failures))
        yield from self._discard_failures()
        return (yield from self._return(result))

    def _refuse(self) -> flexmw.Flow:
        """A refusal of a call that no upstream takes, or of which no upstream has left a response that can be given."""
        _, state = min(self.states(), key=lambda item: item[1].wait)
        reason = "all_refused" if self.tried else "all_cooling"
        response = made_refusal(self.request, state.status, state.wait, was_sent=bool(self.tried))
        LOGGER.warning("%s %s: %s, for another %.1f s", self.request.method, self.path, reason, state.wait)
        set_outcome(response, self._outcome(flexmw.Outcome("refused", 0, reason=reason, row="refused"), None))
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

    def _return(self, result: Result) -> flexmw.Flow:
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
