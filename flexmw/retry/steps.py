"""Steps of a client's call: the requests that Retry gets within one call of a client.

A client takes a further step by itself after a redirect, and its authentication after a 401. A transport between the
client and Retry, and an authentication that answers a 500, may repeat a step that Retry has given up. What Retry knows
of a step that failed is kept for the next one, for as long as the client's call lasts.

A transport, or the ``send`` of a subclass of the client, that sends each attempt in a task or a thread of its own hides
the client's call. There, the body of the request stands for the call: the same object is in the request, and in each
copy of it. A program that sends one request in two calls there gets the result of the first again.

Where the client's call is known, the body does not stand for it: a program whose stream broke, after the call, may send
its request again.
"""

from __future__ import annotations

import weakref
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from flexmw.contract.exception_slots import attributes_of
from flexmw.kit.client_call import current_call
from flexmw.kit.deadline import library_error
from flexmw.kit.effects import Response
from flexmw.retry.call import KEY, Call
from flexmw.retry.causes import copy_without_references
from flexmw.retry.core import Outcome, RetryDecision, judge
from flexmw.retry.log import log_repetition_above, log_stop
from flexmw.retry.memory import FailedCall, GivenBack

__all__ = ["FAILED_STEPS", "FailedStep", "FailedSteps", "Steps"]


_MAX_STEPS: Final = 16
_MAX_BODIES: Final = 256
"""Where the body of the request stands for the call, a step is kept for as long as the program keeps the request. Other
steps end with their call, and there are as many as calls: a bound let an outage of 600 calls execute 1,429 POSTs."""

_SWEPT: Final = 8
"""The number of calls that are checked for their end at each search. All of them would make an outage of many calls at
once slow."""


@dataclass(frozen=True, slots=True)
class FailedStep:
    """A request that failed, or that may have been executed. An authentication changes the request itself, so what
    counts of it is kept as it was.

    :param request: the request, as the client made it.
    :param body: a digest of the body.
    :param place: the method, origin and path.
    :param known: the key and the credentials of the request, and whether an attempt may have been executed.
    :param has_failed: whether the step itself failed; false if a later attempt got a response such as a 401.
    :param lost: the error or the response that the client got; ``None`` if the response was not read.
    """

    request: weakref.ref[Any]
    body: bytes
    place: str
    fingerprint: bytes
    known: FailedCall
    has_failed: bool
    lost: BaseException | GivenBack | None

    def is_of(self, request: Any, body: bytes) -> bool:
        """Return whether a request repeats this one: the same object, or one with the same body."""
        return self.request() is request or self.body == body


class FailedSteps:
    """The failed steps of each client's call that has not ended, at most one for each request.

    Not an extension of the request: a transport may make a request of its own for each attempt.
    """

    def __init__(self) -> None:
        self.by_call: dict[int, tuple[weakref.ref[Any], tuple[FailedStep, ...]]] = {}
        """By the id of the client's call. Nearly always empty, so that an ordinary request only looks whether it is."""
        self._bodies: dict[int, None] = {}
        """The ids of the bodies that stand for a call, the oldest first."""

    def note(self, call: Any, stream: Any, step: FailedStep) -> None:
        """Keep a step until the client's call has ended, in place of an earlier one of the same request.

        :param call: the client's call; ``None`` if no client is on the stack.
        :param stream: the body of the request.
        """
        subject = stream if call is None else call
        place = id(subject)
        others = self._others(subject, step.request(), step.body)
        with suppress(TypeError):  # the class of an authentication flow, or of a body, may forbid weak references
            known = weakref.ref(subject, lambda _: self._drop(place))
            self.by_call[place] = known, (*others[1 - _MAX_STEPS :], step)
            if call is None:
                self._bodies[place] = None
                for oldest in list(self._bodies)[:-_MAX_BODIES]:
                    self._drop(oldest)

    def _drop(self, place: int) -> None:
        self.by_call.pop(place, None)
        self._bodies.pop(place, None)

    def find(self, stream: Any) -> tuple[FailedStep, ...]:
        """Return the failed steps of the client's call on the stack, the last one last.

        An attempt without the client on its stack may be the repetition of one with it.

        :param stream: the body of the request.
        """
        for place in list(self.by_call)[:_SWEPT]:
            entry = self.by_call.get(place)
            # An error that the program keeps has the frame of the call in its traceback.
            if entry is not None and _has_ended(entry[0]()):
                self._drop(place)
        if not self.by_call:
            return ()
        if (call := current_call()) is not None:
            return self._of(call)
        for place in list(self.by_call):
            known, steps = self.by_call.get(place, (None, ()))
            if known is not None and (known() is stream or _have_body(steps, stream)):
                return steps
        return ()

    def forget(self, call: Any, stream: Any, request: Any, body: bytes) -> None:
        """Forget the failed step of a request."""
        subject = stream if call is None else call
        entry, others = self.by_call.get(id(subject)), self._others(subject, request, body)
        if not others:
            self._drop(id(subject))
        elif entry is not None:
            self.by_call[id(subject)] = entry[0], others

    def _of(self, call: Any) -> tuple[FailedStep, ...]:
        entry = self.by_call.get(id(call))
        return entry[1] if entry is not None and entry[0]() is call else ()

    def _others(self, call: Any, request: Any, body: bytes) -> tuple[FailedStep, ...]:
        return tuple(step for step in self._of(call) if not step.is_of(request, body))


FAILED_STEPS: Final = FailedSteps()
"""Of all clients: the transports of one client may have several Retry objects."""


def _have_body(steps: tuple[FailedStep, ...], stream: Any) -> bool:
    return any(getattr(step.request(), "stream", None) is stream for step in steps)


def _has_ended(call: Any) -> bool:
    """Return whether the generator of an authentication flow has ended."""
    frame = getattr(call, "gi_frame", None) or getattr(call, "ag_frame", None)
    return frame is None and (hasattr(call, "gi_frame") or hasattr(call, "ag_frame") or call is None)


class Steps(Call):
    """A call that knows the failed step before it."""

    kept: GivenBack | None = None
    """The last response that was not good, if its body was read."""

    def mark_lost(
        self, error: BaseException, decision: RetryDecision, reason: str, *, received: int | None = None
    ) -> Outcome:
        known = super().mark_lost(error, decision, reason, received=received)
        self.note_step(decision, error)
        return known

    def mark_cancelled(self, error: BaseException, decision: RetryDecision) -> None:
        super().mark_cancelled(error, decision)
        if not issubclass(type(error), GeneratorExit):  # a transport above may bound each attempt by a cancel scope
            self.note_step(decision)

    def note_step(self, decision: RetryDecision, error: BaseException | None = None) -> None:
        """Keep what is known of this step, which has failed or may have been executed.

        :param error: the library's error that the client gets; ``None`` if the client gets a response, a cancellation
            or an error of another kind.
        """
        may_have_run = not self.safe and (self.may_have_run or decision.outcome == "ambiguous")
        has_failed = decision.outcome != "answered"
        if may_have_run or has_failed:
            lost = self.kept if error is None else copy_without_references(error)
            known = FailedCall(self.key, self.first_sent, may_have_run, self.credentials())
            place, fingerprint, body = self.place, self.fingerprint(), self.body_digest()
            step = FailedStep(weakref.ref(self.request), body, place, fingerprint, known, has_failed, lost)
            FAILED_STEPS.note(current_call(), self.request.stream, step)

    def forget_step(self) -> None:
        """Forget the failed step: a request after a good response is another one. An authentication that polls by POST
        got the response of its first poll again and again, under the key of that poll."""
        FAILED_STEPS.forget(current_call(), self.request.stream, self.request, self.body_digest())

    def resume_step(self) -> Response | None:
        """Continue after a failed step of the client's call, under its key if the step may have been executed.

        At another place, or with other credentials, a key does not make a repetition safe. An authentication may send
        requests of its own, such as one for a token: a further request of the call with another body is no repetition.

        :returns: the response of the step, if the step may have been executed, and a repetition is not safe; ``None``
            if this step is to be sent.
        :raises Exception: the error of the step, or the library's ``TransportError``, for the same reason.
        """
        steps = FAILED_STEPS.find(self.request.stream)
        body = self.body_digest() if steps else b""
        step = next((step for step in reversed(steps) if step.is_of(self.request, body)), None)
        if step is None:
            return None
        known = step.known
        has_same_credentials = known.credentials == self.credentials()
        is_same_place = step.place == self.place
        if is_same_place and step.has_failed and step.fingerprint == self.fingerprint():
            # An authentication that answers a 429 by the next of its API keys makes a call of its own.
            self.repeats_step = known.may_have_run or has_same_credentials
        if self.repeats_step and self.memory.first_warning("above"):
            log_repetition_above(self.request.method, self.origin)
        if self.safe or not known.may_have_run:
            return None
        own = self.request.headers.get(KEY)
        self.first_sent, self.may_have_run = known.first_sent, True
        continues = is_same_place and own in (None, known.key) and has_same_credentials
        if continues:
            self.key, self.fresh_key = known.key, own is None and known.key is not None
        if self.safety == "opt_in" or (continues and (self.safety != "none" or not self.repeats_step)):
            return None
        if self.repeats_step:
            message = "this request may have been executed, and was given back before; nothing was sent"
            return self.give_back(step.lost, lambda: library_error(self.request, "TransportError", message))
        message = "this call may have been executed with other credentials or elsewhere; nothing was sent"
        error = library_error(self.request, "TransportError", message)
        outcome = attributes_of(error)["flexmw"] = self.outcome(judge("ambiguous", "none"), "key_not_honoured")
        log_stop(self.request.method, self.origin, outcome, kind=type(error).__name__)
        raise error
