"""One call as a flow: send, name what happened, look it up in the table, wait, send again or give back.

The flow uses no thread, no event loop and no client library; :mod:`flexmw.kit.transport` runs it on all four clients.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Callable
from functools import cached_property
from operator import itemgetter
from typing import Any, Final

from flexmw.contract import CREDENTIALS, Wait, key_ttl, wait_of
from flexmw.contract.sdk import parse_retry_count
from flexmw.kit.effects import DEADLINE, RESENDS, Discard, Emit, Flow, Follow, Request, Response, Send, Sleep
from flexmw.kit.evidence import Evidence, is_transport_error
from flexmw.kit.transport import DRAIN_SECONDS, copy_request, is_shared
from flexmw.retry.body import body_bytes, mark_consumed, no_rewind_needed, rewinder
from flexmw.retry.budget import Budget
from flexmw.retry.causes import causes_of, class_names, copy_without_references, proves_unsent
from flexmw.retry.core import (
    HOPELESS,
    SAFE_METHODS,
    Outcome,
    RetryDecision,
    Safety,
    backoff,
    is_passing,
    judge,
    of_error,
    of_status,
    shrink,
    unprocessed,
)
from flexmw.retry.memory import Memory
from flexmw.retry.options import RetryOptions

__all__ = ["RetryCall"]

_log = logging.getLogger("flexmw")

KEY: Final = "idempotency-key"
KEY_TTL: Final = "idempotency-key-ttl"
SDK_COUNT: Final = "x-stainless-retry-count"
SHOULD_RETRY: Final = "x-should-retry"
PATIENCE: Final = 90.0
_KEY, _SDK_COUNT = KEY.encode(), SDK_COUNT.encode()
_NAME: Final = itemgetter(0)
"""Most requests carry neither header. A ``get`` of httpx's ``Headers`` searches all lines, and decodes them first."""

GOOD: Final = judge("answered", "none")
AT_ONCE: Final = Outcome("answered", 1)


class RetryCall:
    """The state of one logical call."""

    timeout: dict[str, float | None]

    def __init__(self, options: RetryOptions, budget: Budget, memory: Memory, request: Request) -> None:
        self.options, self.budget, self.memory, self.request = options, budget, memory, request
        self.clock = options.clock
        self.began = self.clock.monotonic()
        self.sdk_count: int | None = None
        self.key: str | None = None
        headers: Any = request.headers
        names = b" ".join(map(_NAME, headers.raw)).lower()
        if _KEY in names or _SDK_COUNT in names:
            self.sdk_count = parse_retry_count(headers.get(SDK_COUNT))
            self.key = headers.get(KEY)
        self.max_attempts = 1 if self.sdk_count else options.attempts
        self.sent = 0
        self.waited = 0.0
        self.rewind: Callable[[], None] | None = None
        self.safe = request.method in SAFE_METHODS
        self.fresh_key = self.key is None and options.auto_key and not self.safe and self.keyed
        if self.fresh_key:
            self.key = str(uuid.uuid4())

    @cached_property
    def origin(self) -> str:
        url = self.request.url
        host = f"[{url.host}]" if ":" in url.host else url.host
        return f"{url.scheme}://{host}" + (f":{url.port}" if url.port else "")

    @cached_property
    def place(self) -> str:
        """Method, origin and path: a server that announces a key TTL announces it for these."""
        return f"{self.request.method} {self.origin}{self.request.url.path}"

    @property
    def keyed(self) -> bool:
        """Whether the server is known to honour keys for this request."""
        return self.origin in self.options.key_origins or self.memory.honours(self.place, now=self.began)

    @property
    def safety(self) -> Safety:
        if self.safe:
            return "safe_method"
        if self.key and self.keyed:
            return "idempotency_key"
        return "opt_in" if self.options.idempotent else "none"

    def flow(self) -> Flow:
        if self.sdk_count:
            self._refuse_repetition()
        self.budget.deposit(self.options.budget_ratio, self.options.budget_per_second, self.began)
        self.rewind = rewinder(self.request.stream)
        while True:
            self.sent += 1
            bounded = self.sent > 1 or self.options.deadline is not None
            evidence = Evidence(self._leaves if bounded or self.rewind is not no_rewind_needed else None)
            try:
                attempt = self._attempt(bounded)
                response: Response = yield Send(attempt, evidence.observe)
            except Exception as error:
                if not is_transport_error(error):
                    raise
                decision, kind, wait = self._examine(error, evidence), type(error).__name__, None
                if not _is_hopeless(error, evidence):
                    reason, delay = self._plan(decision, None, untouched=evidence.sent is False)
                else:
                    reason, delay = "local_error", 0.0
                if reason is not None:
                    self._lost(error, decision, reason)
                    yield self._event("flexmw.retry.stopped", decision, kind, stop_reason=reason)
                    raise
            else:
                decision, wait = self._read(response)
                if decision is GOOD:
                    return (yield Follow(response, self._body_ended)) if self._sign(response) else response
                kind = str(response.status_code)
                reason, delay = self._plan(decision, wait)
                if reason is not None:
                    if decision.row != "answered":
                        yield self._event("flexmw.retry.stopped", decision, kind, stop_reason=reason)
                    signed = self._sign(response, decision, reason)
                    return (yield Follow(response, self._body_ended)) if signed else response
                # Each read may take as long as all of them: with half of what is left, the wait begins in time.
                seconds = min(DRAIN_SECONDS, max(0.0, self._remaining() - delay) / 2)
                if not is_shared(response):
                    _hurry(attempt, seconds)
                yield Discard(response, seconds)
            yield self._event(
                "flexmw.retry.scheduled",
                decision,
                kind,
                attempt=self.sent,
                delay=delay,
                delay_source="retry_after" if wait else "backoff",
            )
            yield Sleep(delay)
            self.waited += delay
            if self.rewind is not None:
                self.rewind()

    def _attempt(self, bounded: bool) -> Request:
        """A copy of the request for this attempt: instruments and inner components may change its headers."""
        timeout = self.timeout = dict(self.request.extensions.get("timeout") or {})
        attempt: Request = copy_request(self.request, timeout=timeout)
        if self.fresh_key and self.key:
            attempt.headers[KEY] = self.key
        if self.sent > 1:
            attempt.extensions[RESENDS] = self.sent - 1
        if bounded:
            attempt.extensions[DEADLINE] = self.ends
            timeout.update(shrink(timeout, self._remaining()))
        return attempt

    def _leaves(self, again: bool) -> None:
        """The head goes out now. The wait for a connection has taken time that the timeouts did not count."""
        if self.sent > 1 or self.options.deadline is not None:
            self.timeout.update(shrink(self.timeout, self._remaining()))
        if not again:
            return
        if self.rewind is None:
            mark_consumed(self.request.stream)
        else:
            self.rewind()

    def _remaining(self) -> float:
        return self.ends - self.clock.monotonic()

    @property
    def ends(self) -> float:
        return self.began + (self.options.deadline or PATIENCE)

    def _read(self, response: Response) -> tuple[RetryDecision, Wait | None]:
        headers, status = response.headers, response.status_code
        if KEY_TTL in headers and (ttl := key_ttl(headers[KEY_TTL])) is not None:
            self.memory.trust(self.place, ttl=ttl, now=self.clock.monotonic())
        if status < 400:
            return GOOD, None
        wait = wait_of(headers, now=self.clock.now())
        explicit = wait is not None and wait.source != "reset"
        asked = {"true": True, "false": False}.get(headers.get(SHOULD_RETRY, "").strip().lower())
        event = of_status(status, retry_after=explicit, asked=asked)
        return judge(event, self.safety, asked=asked), wait if explicit or status == 429 else None

    def _examine(self, error: Exception, evidence: Evidence) -> RetryDecision:
        refused = any(unprocessed(detail, evidence.stream) for cause in causes_of(error) for detail in cause.args)
        sent = evidence.sent
        if sent is None and (theirs := getattr(error, "_request", None)) is not None:
            # An app that runs in this process may raise an error of its own outgoing call: the error says nothing about
            # this request.
            sent = True if theirs.stream is not self.request.stream else None
        event = of_error(class_names(error), sent=sent, proven=proves_unsent(error), refused=refused)
        return judge(event, self.safety)

    def _plan(self, decision: RetryDecision, wait: Wait | None, *, untouched: bool = False) -> tuple[str | None, float]:
        """The reason why there is no further attempt (``None`` where there is one), and the seconds before it."""
        options, chance = self.options, self.options.random()
        delay = backoff(self.sent, chance) if wait is None else wait.seconds + options.jitter * chance
        if not decision.retry:
            return ("unsafe_method" if decision.row == "ambiguous" else "status"), delay
        stops: tuple[tuple[str, Callable[[], bool]], ...] = (
            ("attempts_exhausted", lambda: self.sent >= self.max_attempts),
            ("body_not_replayable", lambda: self.rewind is None and not untouched),
            ("retry_after_too_long", lambda: wait is not None and wait.seconds > options.max_retry_after),
            ("deadline", lambda: delay >= self._remaining()),
            ("budget", lambda: not self.budget.withdraw(options.budget_per_second, self.clock.monotonic())),
        )
        return next((name for name, holds in stops if holds()), None), delay

    def _sign(self, response: Response, decision: RetryDecision = GOOD, reason: str | None = None) -> bool:
        """Write the outcome on a response. True where the loss of its body would be an ambiguous outcome."""
        plain = reason is None and self.sent == 1 and self.key is None
        response.extensions["flexmw"] = AT_ONCE if plain else self._outcome(decision, reason)
        if reason is not None and self.sdk_count is not None:
            response.headers[SHOULD_RETRY] = "false"
        return not self.safe and self.safety == "none"

    def _body_ended(self, error: BaseException | None) -> None:
        if error is not None and is_transport_error(error):
            self._lost(error, judge("ambiguous", self.safety), "unsafe_method")

    def _lost(self, error: BaseException, decision: RetryDecision, reason: str) -> None:
        """Write the outcome on an error; remember the error if an SDK above must not repeat the request either."""
        error.flexmw = self._outcome(decision, reason)  # type: ignore[attr-defined]
        if self.sdk_count is not None and decision.outcome == "ambiguous" and self.safety == "none":
            self.memory.remember_lost(self._fingerprint(), copy_without_references(error), self.clock.monotonic())

    def _refuse_repetition(self) -> None:
        """The SDK above repeats a call: warn once, and raise the same error again where the first was ambiguous."""
        if self.memory.first_warning():
            _log.warning(
                "an SDK retries above flexmw (%s: %s): its repetitions get one attempt each; "
                "build it with max_retries=0 and leave retrying to flexmw.Retry",
                SDK_COUNT,
                self.sdk_count,
            )
        if self.safety == "none":
            error = self.memory.find_lost(self._fingerprint(), self.clock.monotonic())
            if error is not None:
                again = copy_without_references(error)
                again.flexmw = self._outcome(judge("ambiguous", "none"), "given_back_before")  # type: ignore[attr-defined]
                raise again

    def _outcome(self, decision: RetryDecision, reason: str | None) -> Outcome:
        return Outcome(decision.outcome, self.sent, self.waited, self.key, reason, decision.row)

    def _event(self, event: str, decision: RetryDecision, kind: str, **details: Any) -> Emit:
        """An event for Tagging: the safety of a repetition and the kind of failure."""
        safety = "not_sent" if decision.outcome == "unsent" else self.safety
        return Emit(event, {**details, "safety": safety, "error_type": kind})

    def _fingerprint(self) -> bytes:
        """Equal for equal requests of one caller. A body that is not held in memory does not count."""
        parts = (
            self.place,
            self.request.url.query.decode("ascii", "replace"),
            *(self.request.headers.get(name, "") for name in CREDENTIALS),
        )
        digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=16)
        digest.update(body_bytes(self.request.stream) or b"")
        return digest.digest()


def _is_hopeless(error: BaseException, evidence: Evidence) -> bool:
    """Whether every further attempt would fail in the same way on this side."""
    if evidence.rejection is not None and not is_passing(evidence.rejection):
        return True
    return not class_names(*causes_of(error, hidden=True)).isdisjoint(HOPELESS)


def _hurry(attempt: Request, seconds: float) -> None:
    """Shorten the read timeout for the rest of a response that is given up."""
    timeout = attempt.extensions["timeout"]
    timeout["read"] = min(timeout.get("read") or DRAIN_SECONDS, max(0.001, seconds))
