"""State of one call: the idempotency key, whether a repetition is safe, and the outcome so far."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Final

from flexmw.contract.codings import stable_body
from flexmw.contract.credentials import shows_caller, split_query
from flexmw.contract.exception_slots import attributes_of
from flexmw.contract.sdk import RETRY_COUNT, parse_retry_count
from flexmw.kit.built_response import build_response
from flexmw.kit.deadline import library_error, timeout_error
from flexmw.kit.effects import Request, Response
from flexmw.kit.headers import has_any
from flexmw.kit.stack_count import counted_on_stack
from flexmw.retry.body import body_bytes
from flexmw.retry.budget import Budget
from flexmw.retry.causes import copy_without_references
from flexmw.retry.core import SAFE_METHODS, Event, Outcome, RetryDecision, Safety, judge
from flexmw.retry.deadline import deadline_of
from flexmw.retry.limits import LIMITS, NO_LIMITS, AttemptLimits
from flexmw.retry.log import LOGGER, note_of
from flexmw.retry.memory import FailedCall, GivenBack, Memory
from flexmw.retry.options import RetryOptions
from flexmw.retry.sdk_count import SDK_COUNT

__all__ = ["KEY", "NAMES", "Call"]

KEY: Final = "idempotency-key"
NAMES: Final = frozenset({KEY.encode(), RETRY_COUNT})


class Call:
    """One logical call with all of its attempts.

    :ivar began: when the call began, in monotonic seconds.
    :ivar first_sent: when the request was first sent, in monotonic seconds. For a repetition by an SDK, the time of the
        call that the SDK repeats.
    :ivar ends: the deadline, in monotonic seconds.
    :ivar may_have_run: whether an attempt may have been executed.
    :ivar moves: whether an SDK above may repeat the call at another host.
    :ivar repeats_step: whether a transport, an authentication or a method of the client above Retry repeats a request
        that Retry has given up.
    :ivar returned: whether the caller has a response. An error in its body is then not the failure of an attempt.
    """

    # Class attributes, because most calls neither set nor read them: they cost nothing in `__init__`.
    patience_ends: float | None = None
    fresh_key = returned = is_counted_on_stack = moves = repeats_step = False
    cookie: str | None = None

    def __init__(self, options: RetryOptions, budget: Budget, memory: Memory, request: Request) -> None:
        self.options = options
        self.budget = budget
        self.memory = memory
        self.request = request
        self.clock = clock = options.clock
        self.began = self.first_sent = clock.monotonic()
        self.safe = request.method in SAFE_METHODS
        self.ends: float | None = None
        self.sdk_count: int | None = None
        self.key: str | None = None
        self.may_have_run = False
        self.sent = 0
        self.waited = 0.0
        self.classified: Event | None = None
        self.limits: AttemptLimits = request.extensions.get(LIMITS, NO_LIMITS)
        limits = self.limits
        if options.deadline is not None:
            self.ends = deadline_of(request, options.deadline, self.began)
        if limits is not NO_LIMITS and limits.ends is not None:
            self.ends = limits.ends if self.ends is None else min(self.ends, limits.ends)
        if has_any(request.headers, NAMES):
            self.sdk_count = parse_retry_count(request.headers.get(SDK_COUNT))
            self.key = request.headers.get(KEY)
        if memory.counted_hosts and memory.may_count_on_stack(request.url.host):
            self.find_count()
        if options.auto_key and not self.safe and self.key is None and not self.sdk_count and self.keyed:
            self.key, self.fresh_key = str(uuid.uuid4()), True

    def find_count(self) -> None:
        """Look for an SDK's count of repetitions on the stack, if the request has none."""
        if not self.sdk_count and not self.safe and (found := counted_on_stack()) is not None:
            self.sdk_count, self.is_counted_on_stack, self.moves = found.repetitions, True, found.moves
            self.memory.count_on_stack(self.request.url.host, moves=found.moves)

    @property
    def max_attempts(self) -> int:
        """The largest number of attempts: one if an SDK or a transport retries above Retry; an outer component may set
        a lower limit."""
        is_repetition = self.sdk_count or self.repeats_step
        attempts, limit = 1 if is_repetition else self.options.attempts, self.limits.attempts
        return attempts if limit is None else min(attempts, limit)

    @cached_property
    def origin(self) -> str:
        url = self.request.url
        host = f"[{url.host}]" if ":" in url.host else url.host
        return f"{url.scheme}://{host}" + (f":{url.port}" if url.port else "")

    @cached_property
    def place(self) -> str:
        """Method, origin and path. A server announces its key TTL for each place separately."""
        return f"{self.request.method} {self.origin}{self.request.url.path}"

    @cached_property
    def declared(self) -> bool:
        """Whether the user says that the origin honours keys."""
        return self.origin in self.options.key_origins

    @property
    def keyed(self) -> bool:
        """Whether the server is known to honour keys for this request, declared or learned."""
        return self.declared or self.memory.honours(self.place, now=self.clock.monotonic())

    @property
    def safety(self) -> Safety:
        if self.safe:
            return "safe_method"
        if self.key and self.keyed:
            return "idempotency_key"
        return "opt_in" if self.options.idempotent else "none"

    def is_forgotten(self, moment: float) -> bool:
        """Return whether the server may have forgotten the key at a moment, after it may have executed an attempt."""
        if not self.may_have_run or self.safe or not self.key or self.options.idempotent:
            return False
        ttl = self.memory.ttl(self.place, now=self.clock.monotonic())
        return not self.declared if ttl is None else moment >= self.first_sent + ttl

    def too_late(self) -> Exception:
        return timeout_error(self.request, "PoolTimeout", "the time of the call is over; nothing was sent")

    def mark_lost(
        self, error: BaseException, decision: RetryDecision, reason: str, *, received: int | None = None
    ) -> Outcome:
        """Write the outcome on an error. Remember the error if an SDK above must not repeat the request.

        :param received: the number of body bytes that the caller has.
        """
        self.find_count()
        known = replace(self.outcome(decision, reason), received=received)
        attributes_of(error)["flexmw"] = known
        with suppress(Exception):  # a class may hide its notes; the caller gets the error without the note
            BaseException.add_note(error, f"flexmw: {note_of(known)}")
        if self.sdk_count is not None and not self.safe:
            if known.outcome == "ambiguous":
                now = self.clock.monotonic()
                self.memory.remember_lost(self.fingerprint(), copy_without_references(error), now)
            self.remember_failed(decision)
        return known

    def mark_cancelled(self, error: BaseException, decision: RetryDecision) -> None:
        """Write the outcome on a cancellation or a ``KeyboardInterrupt``, for a program that goes on afterwards.

        A ``TimeoutError`` of asyncio has the cancellation as its cause.
        """
        if issubclass(type(error), (Exception, GeneratorExit)):  # an error of the app, or the flow is closed
            return
        known = self.outcome(decision, "cancelled")
        with suppress(Exception):
            attributes_of(error)["flexmw"] = known
            BaseException.add_note(error, f"flexmw: {note_of(known)}")

    def remember_failed(self, decision: RetryDecision) -> None:
        """Remember the call, so that an SDK's repetition of it is sent under the same key."""
        if not self.safe and (self.key is not None or self.options.auto_key):
            may_have_run = self.may_have_run or decision.outcome == "ambiguous"
            call = FailedCall(self.key, self.first_sent, may_have_run, self.credentials())
            self.memory.remember_failed(self.fingerprint(), call, self.clock.monotonic())

    def resume_repetition(self, count: int) -> Response | None:
        """Handle an SDK's repetition of a call: warn once, and continue under the key of that call.

        If the call may have been executed and a repetition is not safe, the SDK gets the same error or response again.
        A server keeps the keys of different callers apart, and an SDK may get a new token before each attempt: a key
        that was sent with other credentials does not make a repetition safe.

        :param count: the number of the repetition.
        :returns: the response that the SDK gets again; ``None`` if the repetition is to be sent.
        :raises Exception: the error that the SDK gets again.
        """
        if self.memory.first_warning():
            LOGGER.warning(
                "an SDK retries above flexmw (%s: %s): its repetitions get one attempt each; "
                "build it with max_retries=0 and leave retrying to flexmw.Retry",
                "retries" if self.is_counted_on_stack else SDK_COUNT,
                count,
            )
        if self.safe:
            return None
        now, fingerprint = self.clock.monotonic(), self.fingerprint()
        failed, unknown, renewed = None, False, False
        if self.key is not None or self.options.auto_key:
            credentials = self.credentials()
            failed = self.memory.take_failed(fingerprint, now, key=self.key, credentials=credentials)
            if failed is not None:
                self.fresh_key = self.key is None and failed.key is not None
                self.key, self.first_sent, self.may_have_run = failed.key, failed.first_sent, failed.may_have_run
                renewed = failed.may_have_run and failed.credentials != credentials
            unknown = failed is None and self.key is None
        safety = self.safety
        if safety == "opt_in" or (safety != "none" and not unknown and not renewed and not self.is_forgotten(now)):
            return None
        lost = self.memory.find_lost(fingerprint, now)
        if lost is None and not self.may_have_run and (not unknown or self.is_counted_on_stack):
            if unknown and self.keyed:  # another call of the SDK, made during the repetition, such as for a token
                self.key, self.fresh_key = str(uuid.uuid4()), True
            return None
        # The SDK may repeat the call again, after a longer wait each time.
        if failed is not None:
            self.memory.remember_failed(fingerprint, failed, now)
        if lost is not None:
            self.memory.extend_lost(fingerprint, count, now)
        return self.give_back(lost, self.too_late)

    def give_back(self, lost: BaseException | GivenBack | None, make_error: Callable[[], Exception]) -> Response:
        """Respond to a repetition without sending it.

        :param lost: what the call ended with that is repeated; ``None`` if that is not known.
        :param make_error: makes the error that is raised in its place.
        :raises Exception: the error of the call; the library's ``ReadError`` for a response whose body was not kept.
        """
        outcome = self.outcome(judge("ambiguous", "none"), "given_back_before")
        if isinstance(lost, GivenBack):
            if lost.body is not None:
                response = build_response(self.request, lost.status, headers=lost.headers, body=lost.body)
                response.extensions["flexmw"] = outcome
                return response
            # The same head with an empty body was taken for what the server had sent.
            message = f"this request may have been executed, and a {lost.status} was given back for it before, whose "
            message += "body was too large or too slow to be kept; nothing was sent"
            lost = library_error(self.request, "ReadError", message)
        again = make_error() if lost is None else copy_without_references(lost)
        attributes_of(again)["flexmw"] = outcome
        raise again

    def outcome(self, decision: RetryDecision, reason: str | None) -> Outcome:
        """Return the outcome of the whole call. If an earlier attempt may have been executed, a later attempt that was
        not executed does not change that."""
        outcome = decision.outcome
        if self.may_have_run and (
            outcome in ("unsent", "refused") or decision.row == "conflict" or self.safety == "none"
        ):
            outcome = "ambiguous"
        return Outcome(outcome, self.sent, self.waited, self.key, reason, decision.row)

    def fingerprint(self) -> bytes:
        """Return a digest that is equal for equal requests.

        Three parts are left out: the credentials, because an SDK may get a new token or sign anew before each attempt;
        a body that is not held in memory; the time in a body that is compressed anew for each attempt.
        """
        query, _ = split_query(self.request.url.query)
        place = f"{self.request.method} {self.request.url.path}" if self.moves else self.place
        digest = hashlib.blake2b("\0".join((place, query.decode("ascii", "replace"))).encode(), digest_size=16)
        digest.update(self._stable_body())
        return digest.digest()

    def body_digest(self) -> bytes:
        """Return a digest of the body, as far as :meth:`fingerprint` depends on the body."""
        return hashlib.blake2b(self._stable_body(), digest_size=16).digest()

    def _stable_body(self) -> bytes:
        body = body_bytes(self.request.stream) or b""
        return stable_body(body, self.request.headers.get("content-encoding", ""))

    def credentials(self) -> bytes:
        """Return a digest of the headers and query parameters that identify the caller."""
        digest = hashlib.blake2b(b"\0".join(split_query(self.request.url.query)[1]), digest_size=16)
        for name, value in self.request.headers.items():
            if shows_caller(name):
                digest.update(f"\0{name}\0{value}".encode())
        return digest.digest()
