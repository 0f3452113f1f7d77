"""First attempt of an ordinary call: a fast path that runs no flow.

An ordinary call has a body of bytes, no idempotency key, and no option that needs the body of a response.
:class:`FirstAttempt` prepares its request and decides whether the response ends the call. If it does not, the flow of
:class:`flexmw.retry.flow.RetryCall` continues after the first attempt, and makes all further decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from flexmw.kit.attempt import HEAD_FAILED, HEAD_STARTED
from flexmw.kit.effects import DEADLINE, Flow, Request, Response
from flexmw.kit.evidence import Evidence
from flexmw.kit.headers import has, has_any
from flexmw.kit.stack_count import sdk_count_on_stack
from flexmw.retry.attempts import KEY_TTL_NAME
from flexmw.retry.body import BYTE_STREAMS
from flexmw.retry.budget import Budget
from flexmw.retry.call import KEY, NAMES
from flexmw.retry.core import SAFE_METHODS
from flexmw.retry.flow import AT_ONCE, RetryCall
from flexmw.retry.limits import LIMITS
from flexmw.retry.memory import Memory
from flexmw.retry.options import EXTENSION, OVERRIDES, UNSET, RetryOptions
from flexmw.retry.sdk_count import SDK_COUNT
from flexmw.retry.steps import FAILED_STEPS

__all__ = ["FirstAttempt", "OrdinaryCalls"]


_NOT_ORDINARY: Final = frozenset({EXTENSION, LIMITS, DEADLINE, "trace"})
"""Extensions of a request that only the flow can handle."""


class OrdinaryCalls:
    """Begins the ordinary calls of one Retry.

    :param make_call: makes the :class:`RetryCall` of a request, when the first attempt needs one.
    """

    __slots__ = ("_budget", "_make_call", "_memory", "_monotonic", "_per_second", "_ratio")

    def __init__(
        self, options: RetryOptions, budget: Budget, memory: Memory, make_call: Callable[[Request], RetryCall]
    ) -> None:
        self._budget, self._memory, self._make_call = budget, memory, make_call
        self._ratio, self._per_second = options.budget_ratio, options.budget_per_second
        self._monotonic = options.clock.monotonic

    def begin(self, request: Request) -> FirstAttempt | None:
        """Return the first attempt of an ordinary call; ``None`` for any other call."""
        headers = request.headers
        if (
            OVERRIDES.get() is not UNSET
            or (self._memory.counted_hosts and self._is_repetition(request))
            or (FAILED_STEPS.by_call and FAILED_STEPS.find(request.stream))
            or not _NOT_ORDINARY.isdisjoint(request.extensions)
            or request.stream.__class__ not in BYTE_STREAMS
            or (has_any(headers, NAMES) and (KEY in headers or headers[SDK_COUNT] != "0"))
        ):
            return None
        self._budget.deposit(self._ratio, self._per_second, self._monotonic)
        first = FirstAttempt()
        first.prepare(request, self._memory, self._make_call)
        return first

    def _is_repetition(self, request: Request) -> bool:
        """Return whether an SDK that sends no count repeats a call. Only hosts where such an SDK has failed are
        checked."""
        if request.method in SAFE_METHODS or not self._memory.may_count_on_stack(request.url.host):
            return False
        return bool(sdk_count_on_stack())


class FirstAttempt:
    """A :class:`flexmw.kit.first_send.FirstSend`: see there for the methods.

    The fields are set by :meth:`prepare`, because Python calls an ``__init__`` through C.
    """

    __slots__ = ("_call", "_evidence", "_given", "_left", "_make_call", "_memory", "request")

    def prepare(self, given: Any, memory: Memory, make_call: Callable[[Request], RetryCall]) -> None:
        """Set the fields, and copy the request.

        :param given: the request as the client made it.
        :param memory: the memory of the Retry.
        :param make_call: makes the :class:`RetryCall` of the request, when it is needed.
        """
        self._given, self._memory, self._make_call = given, memory, make_call
        self._left = False
        self._evidence: Evidence | None = None
        self._call: RetryCall | None = None
        self.request: Any
        self.request = request = object.__new__(given.__class__)
        request.__dict__ = state = given.__dict__.copy()
        headers, extensions = state["headers"], state["extensions"]
        state["headers"] = type(headers)(headers)
        state["extensions"] = {**extensions}  # the timeouts are copied when a flow begins, which may change them

    def trace(self, event: str, details: Mapping[str, Any]) -> None:
        # No event after the head matters over HTTP/1.1, so the transport need not report any.
        if self._left:
            if event == HEAD_FAILED:
                self._gathered().observe(event, details)
        elif event == HEAD_STARTED and getattr(details.get("request"), "method", b"") != b"CONNECT":
            self._left = True
            if self._evidence is not None:
                self._evidence.observe(event, details)
            self.request.extensions.pop("trace", None)
        else:
            self._gathered().observe(event, details)

    async def atrace(self, event: str, details: Mapping[str, Any]) -> None:
        self.trace(event, details)

    def _gathered(self) -> Evidence:
        evidence = self._evidence
        if evidence is None:
            self._evidence = evidence = Evidence()
            if self._left:
                evidence.observe(HEAD_STARTED, {})
        return evidence

    def finish(self, response: Response) -> bool:
        if response.status_code >= 400 or (self._evidence is not None and self._evidence.waited):
            return False
        if self._given.method not in SAFE_METHODS:
            memory = self._memory
            if memory.trusted or has(response.headers, KEY_TTL_NAME):
                self._known_call().learn(response)
        response.extensions["flexmw"] = AT_ONCE
        return True

    def on_end(self, error: BaseException | None) -> None:
        if error is not None and not issubclass(type(error), GeneratorExit):
            call = self._known_call()
            if not call.sent:
                call.sent, call.returned = 1, True
            call.body_ended(error)

    def flow(self) -> Flow:
        extensions = self.request.extensions
        # The flow shortens them for the rest of a response that it gives up. Those of the caller are for all attempts.
        extensions["timeout"] = {**(extensions.get("timeout") or {})}
        call = self._known_call()
        call.first = self.request, self._gathered()
        return call.flow()

    def _known_call(self) -> RetryCall:
        call = self._call
        if call is None:
            self._call = call = self._make_call(self._given)
        return call
