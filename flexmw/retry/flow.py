"""Retry flow: send the request, classify the result, look it up in the decision table, then retry or return it.

The flow uses no thread, no event loop and no client library; :mod:`flexmw.kit.transport` runs it on all four clients.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

from flexmw.contract import Wait
from flexmw.contract.exception_slots import args_of, attributes_of
from flexmw.kit.client_call import keep_cookies
from flexmw.kit.effects import Emit, Flow, Follow, Read, Request, Response, Resume, Send, Sleep
from flexmw.kit.evidence import Evidence, is_transport_error
from flexmw.kit.transport import ClientClosed
from flexmw.retry.body import no_rewind_needed, rewinder
from flexmw.retry.causes import causes_of, class_names, proves_unsent
from flexmw.retry.continuation import is_waiting
from flexmw.retry.core import (
    HOPELESS,
    Outcome,
    RetryDecision,
    Safety,
    StopReason,
    backoff,
    is_passing,
    is_signed_once,
    judge,
    of_error,
    unprocessed,
)
from flexmw.retry.log import log_attempt, log_stop
from flexmw.retry.reading import ResponseReading
from flexmw.retry.response import (
    body_counts,
)
from flexmw.retry.resume import EXTENSION, resumption_of
from flexmw.retry.steps import FAILED_STEPS

__all__ = ["RetryCall"]

SHOULD_RETRY: Final = "x-should-retry"
PATIENCE: Final = 90.0
"""Seconds. Without a deadline, no further attempt begins later than this after the first attempt has failed."""

_NO_LIMIT: Final = sys.maxsize

GOOD: Final = judge("answered", "none")
_GOOD: Final = (None, "answered")
"""The results of ``classify`` that leave a good response good."""

AT_ONCE: Final = Outcome("answered", 1)


class RetryCall(ResponseReading):
    """One call of Retry: sends the request, and sends it again where that does no harm."""

    first: tuple[Request, Evidence] | None = None
    """The first attempt and its evidence, if it was sent before the flow begins."""
    waits = 0
    """The number of attempts whose response said that the execution under the key has not ended yet."""

    def flow(self) -> Flow:
        options = self.options
        first = self.first
        if first is None:
            if self.sdk_count and (given_back := self.resume_repetition(self.sdk_count)) is not None:
                return given_back
            if not self.limits.earlier:
                if FAILED_STEPS.by_call and (given_back := self.resume_step()) is not None:
                    return given_back
                self.budget.deposit(options.budget_ratio, options.budget_per_second, self.clock.monotonic)
        self.rewind = rewinder(self.request.stream)
        # The first response is nearly always the last, so `Send` follows it. If the flow itself may read the body, the
        # response is followed later: an error in the flow's reading is the failure of an attempt.
        may_resume = self.key is not None and self.may_resume
        reads = options.reread or options.classify is not None
        on_end = None if reads or may_resume else self.body_ended
        while True:
            self.sent += 1
            sent_before, first = first, None
            if sent_before is None:
                special = self.rewind is not no_rewind_needed or self.ends is not None or self.may_have_run
                evidence = Evidence(self.leaves if special else None)
            else:
                evidence = sent_before[1]
            evidence.repeats = self.repeated_below
            try:
                attempt = self.attempt() if sent_before is None else sent_before[0]
                response: Response = yield Send(attempt, evidence.observe, on_end)
                if not self.safe:
                    self.learn(response)
                if reads:
                    if options.reread and self.is_reread(response):
                        yield Read(response, _NO_LIMIT)  # an error here is a failure of this attempt
                    if options.classify is not None:
                        self.beginning = yield from self.read_beginning(response, attempt)
            except Exception as error:
                self.waited += evidence.waited
                if not is_transport_error(error):
                    self.mark_cancelled(error, _of_interruption(evidence, self.safety))
                    raise
                decision, kind, wait = self._examine(error, evidence), type(error).__name__, None
                if not _is_hopeless(error, evidence):
                    reason, delay = self._plan(decision, None, untouched=evidence.sent is False)
                else:
                    reason, delay = "local_error", 0.0
                if reason is not None:
                    self.mark_lost(error, decision, reason)
                    log_stop(self.request.method, self.origin, self.outcome(decision, reason), kind=kind)
                    yield self._event("flexmw.retry.stopped", decision, kind, stop_reason=reason)
                    raise
            except BaseException as error:
                self.mark_cancelled(error, _of_interruption(evidence, self.safety))
                raise
            else:
                if evidence.waited:
                    self.waited += evidence.waited
                if reads and options.classify is not None:
                    self.classified = self.call_classify(response, options.classify)
                if response.status_code < 400 and self.classified in _GOOD:
                    if FAILED_STEPS.by_call and response.status_code < 300:
                        self.forget_step()
                    if self.sent == 1 and self.key is None and not self.waited and not self.may_have_run:
                        response.extensions["flexmw"] = AT_ONCE
                    else:
                        lost = self.may_have_run and self.safety == "none"
                        self._sign(response, reason="key_not_honoured" if lost else None)
                    self.returned = True
                    if on_end is None:
                        stream = resumption_of(self, response) if may_resume else None
                        if stream is None:
                            response = yield Follow(response, self.body_ended)
                        else:
                            response.extensions[EXTENSION] = stream.report
                            response = yield Resume(response, stream.again, stream.tap)
                    return response
                head = self.read_head_of(response)
                decision, wait = judge(head.event, self.safety, asked=head.asked), head.wait
                kind = str(response.status_code)
                is_out_of_quota = False
                may_follow = decision.retry and self.sent - self.waits < self.max_attempts and self.rewind is not None
                if may_follow and self.classified is None and body_counts(response.status_code, response.headers, wait):
                    is_out_of_quota, wait = yield from self.read_refusal(response, attempt, wait)
                if is_out_of_quota:
                    reason, delay = "insufficient_quota", 0.0
                else:
                    is_wait = self._is_wait(decision, response.status_code)
                    reason, delay = self._plan(decision, wait, is_wait=is_wait)
                if reason is not None:
                    if decision.row != "answered":
                        log_stop(self.request.method, self.origin, self.outcome(decision, reason), kind=kind)
                        yield self._event("flexmw.retry.stopped", decision, kind, stop_reason=reason)
                        self.find_count()
                        if self.may_be_repeated and self.outcome(decision, reason).outcome == "ambiguous":
                            yield from self.keep_response(response)
                    self.returned = True
                    if self.broken_by is not None:
                        self.body_ended(self.broken_by)
                        raise self.broken_by
                    self._sign(response, decision, reason)
                    if on_end is None:
                        response = yield Follow(response, self.body_ended)
                    return response
                if "set-cookie" in response.headers:
                    sent_cookie = self.cookie if self.cookie is not None else self.request.headers.get("cookie")
                    self.cookie = keep_cookies(self.request, response, sent_cookie)
                if self.broken_by is None:
                    yield self.give_up(response, attempt, delay)
            self.may_have_run = self.may_have_run or decision.outcome == "ambiguous"
            outcome, source = self.outcome(decision, None), "retry_after" if wait else "backoff"
            log_attempt(self.request.method, self.origin, outcome, decision, kind=kind, delay=delay, source=source)
            if self.options.on_retry is not None:
                self.options.on_retry(outcome, delay, kind)
            yield self._event(
                "flexmw.retry.scheduled", decision, kind, attempt=self.sent, delay=delay, delay_source=source
            )
            try:
                yield Sleep(delay)
            except ClientClosed as error:
                self.mark_lost(error, decision, "client_closed")
                raise
            except BaseException as error:
                self.mark_cancelled(error, decision)
                raise
            self.waited += delay
            on_end = self.broken_by = None
            if self.rewind is not None:
                self.rewind()

    def _examine(self, error: Exception, evidence: Evidence) -> RetryDecision:
        refused = any(unprocessed(detail, evidence.stream) for cause in causes_of(error) for detail in args_of(cause))
        sent = evidence.sent
        if sent is None and (failed_request := attributes_of(error).get("_request")) is not None:
            # An app that runs in this process may raise the error of its own outgoing call, which says nothing about
            # this request.
            sent = True if failed_request.stream is not self.request.stream else None
        event = of_error(class_names(error), sent=sent, proven=proves_unsent(error), refused=refused)
        return judge(event, self.safety)

    def _plan(
        self, decision: RetryDecision, wait: Wait | None, *, untouched: bool = False, is_wait: bool = False
    ) -> tuple[StopReason | None, float]:
        """Decide on a further attempt.

        :returns: the reason why there is none, or ``None`` if there is one; and the seconds to wait before it.
        """
        options, chance = self.options, self.options.random()
        delay = backoff(self.sent, chance) if wait is None else wait.seconds + options.jitter * chance
        if is_wait:
            self.waits += 1
            if decision.row != "conflict" and self.sent >= self.max_attempts:
                delay = max(delay, backoff(self.sent, chance))  # the server may be down
        if not decision.retry:
            return ("unsafe_method" if decision.row == "ambiguous" else "status"), delay
        now = self.clock.monotonic()
        if self.patience_ends is None:
            self.patience_ends = now + max(PATIENCE, options.max_retry_after + options.jitter)
        latest = self.patience_ends if self.ends is None else self.ends
        may_have_run = self.may_have_run or decision.outcome == "ambiguous"
        stops: tuple[tuple[StopReason, Callable[[], bool]], ...] = (
            ("key_not_honoured", lambda: may_have_run and self.safety == "none"),
            ("handed_back", lambda: self.outcome(decision, None).outcome in self.limits.hand_back),
            ("attempts_exhausted", lambda: self.sent - self.waits >= self.max_attempts),
            ("body_not_replayable", lambda: self.rewind is None and not untouched),
            ("signature_used", lambda: not untouched and is_signed_once(self.request.headers)),
            ("retry_after_too_long", lambda: wait is not None and wait.seconds > options.max_retry_after),
            ("deadline", lambda: now + delay >= latest or self.is_forgotten(now + delay)),
            # A wait that the server names spreads the load already, so only a backoff takes from the budget.
            ("budget", lambda: wait is None and not self.budget.withdraw(options.budget_per_second, now)),
        )
        return next((name for name, holds in stops if holds()), None), delay

    def _is_wait(self, decision: RetryDecision, status: int) -> bool:
        """Return whether a response says that the execution under an honoured key has not ended yet.

        After a 409 the execution is running; after a 502, 503 or 504 a proxy has lost its response. The deadline or the
        patience bounds these waits, and not the number of attempts: an execution may take longer than three attempts.
        """
        is_waited_for = decision.row == "conflict" or is_waiting(status)
        return is_waited_for and self.safety == "idempotency_key" and self.options.attempts > 1

    def _sign(self, response: Response, decision: RetryDecision = GOOD, reason: str | None = None) -> None:
        """Write the outcome on a response."""
        if decision.outcome != "answered" or (self.may_have_run and not 200 <= response.status_code < 300):
            self.note_step(decision)
        response.extensions["flexmw"] = self.outcome(decision, reason)
        if reason is not None and self.sdk_count is not None:
            response.headers[SHOULD_RETRY] = "false"
            self.remember_failed(decision)

    def body_ended(self, error: BaseException | None) -> None:
        if error is None or not self.returned:
            return
        if not is_transport_error(error):
            self.mark_cancelled(error, judge("ambiguous", self.safety))
        else:
            reason = "unsafe_method" if self.safety == "none" else "body_broken"
            outcome = self.mark_lost(error, judge("ambiguous", self.safety), reason)
            log_stop(self.request.method, self.origin, outcome, kind=type(error).__name__)

    def _event(self, event: str, decision: RetryDecision, kind: str, **details: Any) -> Emit:
        """Make an event for Tagging, with the safety of a repetition and the kind of the failure."""
        safety: str = self.safety
        if decision.outcome == "unsent":
            safety = "not_sent"
        elif decision.outcome == "refused" and safety == "none" and not self.may_have_run:
            safety = "refused"
        return Emit(event, {**details, "safety": safety, "error_type": kind})


def _of_interruption(evidence: Evidence, safety: Safety) -> RetryDecision:
    """Return the decision on an attempt that a cancellation, or an error of the app, has ended."""
    return judge("unsent" if evidence.sent is False else "ambiguous", safety)


def _is_hopeless(error: BaseException, evidence: Evidence) -> bool:
    """Return whether each further attempt would fail in the same way before it leaves this client."""
    if evidence.rejection is not None and not is_passing(evidence.rejection):
        return True
    return not class_names(*causes_of(error, hidden=True)).isdisjoint(HOPELESS)
