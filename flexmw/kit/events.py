"""The events that flexmw's components emit: names, and the type of what each event carries.

A component emits an event, and observers further outward are called with its name and its details. On the client an
observer is the second argument of :class:`~flexmw.kit.effects.Send`; on the server it is Tagging, through the exchange.
The events of httpcore (``http11.send_request_headers.started`` and so on) reach the observers of a client too. Events
of other packages have names of their own, such as ``acme.cached``.

:data:`EVENTS` is the table, and ``docs/plugins.md`` is made from it. The details of an event are a ``dict``; its type
says which keys the dict has, so an observer can write:

>>> def observe(event: str, details: Mapping[str, Any]) -> None:
...     if event == "flexmw.retry.scheduled":
...         scheduled = cast(RetryScheduled, details)
...         print(f"again in {scheduled['delay']} seconds")
>>> observe("flexmw.retry.scheduled", {"attempt": 1, "delay": 0.5, "delay_source": "backoff"})
again in 0.5 seconds
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypedDict, cast

__all__ = [
    "ERROR_DECIDED",
    "EVENTS",
    "ErrorDecided",
    "ErrorOutcome",
    "Event",
    "FallbackSwitched",
    "InProcess",
    "PaceStoreOperated",
    "PaceWaited",
    "RateLimitDecided",
    "RateLimitSettled",
    "RateLimitSlot",
    "RateLimitStoreFailed",
    "RetryScheduled",
    "RetryStopped",
    "StoreFailed",
    "StreamBegan",
    "StreamCut",
    "StreamEnded",
    "StreamHeld",
    "StreamLost",
    "StreamResumed",
    "error_decided",
]


@dataclass(frozen=True, slots=True)
class ErrorOutcome:
    """The error that a request ended with: the facts that a span and a metric want.

    :param status: the status of the response.
    :param type: the error's type, of the contract.
    :param code: the error's code, of the contract.
    :param source: who made the error: ``passthrough``, ``http_exception``, ``unhandled_exception``, ``validation``,
        ``foreign_body``, ``rate_limiting`` or ``idempotency``.
    :param exception: the exception that the app raised, if it raised one.
    """

    status: int
    type: str | None = None
    code: str | None = None
    source: str = "passthrough"
    exception: BaseException | None = None


class RetryScheduled(TypedDict):
    """An attempt has failed, and Retry will make another one."""

    attempt: Annotated[int, "the attempts so far, from 1"]
    delay: Annotated[float, "seconds until the next attempt"]
    delay_source: Annotated[str, "`retry_after`: the response names the wait; `backoff`: Retry chose it"]
    safety: Annotated[str, "why a repetition is safe, such as `idempotency_key`"]
    error_type: Annotated[str, "the status of the response, or the class of the exception"]


class RetryStopped(TypedDict):
    """An attempt has failed, and Retry will make no other one."""

    stop_reason: Annotated[str, "why, such as `attempts_exhausted` or `unsafe_method`"]
    safety: Annotated[str, "as in `flexmw.retry.scheduled`"]
    error_type: Annotated[str, "as in `flexmw.retry.scheduled`"]


class StreamCut(TypedDict):
    """The body of a response broke, and Retry tries to continue it."""

    error_type: Annotated[str, "the class of the exception"]
    offset: Annotated[int, "the bytes of the body so far"]


class StreamResumed(TypedDict):
    """A body that broke goes on."""

    attempt: Annotated[int, "the requests of the call so far"]
    offset: Annotated[int, "the bytes of the body so far"]
    gap: Annotated[float, "seconds since the cut"]


class StreamLost(TypedDict):
    """A body that broke could not be continued; the exception reaches the caller."""

    reason: Annotated[str, "why, such as `stream_gone` or `resume_exhausted`"]
    error_type: Annotated[str, "the class of the exception"]
    offset: Annotated[int, "the bytes of the body so far"]


FallbackSwitched = TypedDict(
    "FallbackSwitched",
    {
        "from": Annotated[str, "scheme, host and port of the upstream that was asked, or that is cooling"],
        "to": Annotated[str, "those of the upstream that is asked next"],
        "why": Annotated[str, "a status, the class of an error, or `cooling`"],
    },
)
FallbackSwitched.__doc__ = "A call goes to another upstream, with the plugin flexmw-fallback."


class PaceWaited(TypedDict):
    """Pace has delayed a request."""

    seconds: Annotated[float, "how long"]
    reason: Annotated[
        str,
        "`limit`: until the server admits more; `first_response`: no response has shown the limit of such requests yet",
    ]


class PaceStoreOperated(TypedDict):
    """Pace has asked its store."""

    seconds: Annotated[float, "how long the store took"]
    error_type: Annotated[str | None, "the class of what the store raised, if it failed"]


class InProcess(TypedDict):
    """A transport calls an app in this process, and the request arrives the moment it is sent."""


class ErrorDecided(TypedDict):
    """The error that a request ends with is known; its response has not been sent."""

    outcome: Annotated[ErrorOutcome, "status, type, code, source and exception"]


class StreamHeld(TypedDict):
    """The app has begun a stream, whose head is held until the first event: a failure before it replaces the head."""


class StreamBegan(TypedDict):
    """The first event of a stream is about to be sent."""


class StreamEnded(TypedDict):
    """A stream has come to its end without an error."""


class RateLimitDecided(TypedDict):
    """A limiter has decided on a request."""

    result: Annotated[str, "such as `acquired` or `rejected`"]
    policy: Annotated[str, "the name of the rate that decided"]
    degraded: Annotated[bool, "whether this process decided because the store did not respond"]
    duration: Annotated[float, "seconds that the decision took"]
    error_type: Annotated[str | None, "the class of the store's exception, if it raised one"]
    shadow: Annotated[bool, "whether the limiter refuses nothing"]
    caller: Annotated[str, "the keyed hash of the caller, which the store sees too"]


class RateLimitSlot(TypedDict):
    """A request has taken a slot of `RateLimit(concurrency=...)`, or has given it back."""

    policy: Annotated[str, "the name of the limit"]


class RateLimitSettled(TypedDict):
    """A limiter has corrected what a request has reserved, by `RateLimit(usage=...)`."""

    basis: Annotated[str, "on what the correction is based, such as `usage` or `counted`"]
    policy: Annotated[str, "the name of the first corrected rate"]
    reserved: Annotated[int, "what was reserved of it: tokens, or millionths of another unit"]
    used: Annotated[int, "what it is charged in the end"]
    is_known: Annotated[bool, "whether the next three are known; else they are 0 and empty"]
    input_tokens: Annotated[int, "tokens that the model has read"]
    output_tokens: Annotated[int, "tokens that the model has written"]
    model: Annotated[str, "the model that has responded; empty where the response does not say"]


class RateLimitStoreFailed(TypedDict):
    """A limiter's store did not respond."""

    exception: Annotated[BaseException, "the store's exception"]
    policy: Annotated[str, "as in `flexmw.rate_limiting.decided`"]
    result: Annotated[str, "as in `flexmw.rate_limiting.decided`"]


class StoreFailed(TypedDict):
    """The store of idempotency keys did not respond."""

    exception: Annotated[BaseException | None, "the store's exception"]


class _RenamedEvent(str):
    """The name ``flexmw.error.decided``, equal to the event's old name as well, with a warning."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        if other == "flexmw.answer":
            warnings.warn("the event flexmw.answer is now flexmw.error.decided", DeprecationWarning, stacklevel=2)
            return True
        return str.__eq__(self, cast("str", other))

    def __ne__(self, other: object) -> bool:
        return not self == other


class _ErrorDetails(dict[str, Any]):
    """The details of ``flexmw.error.decided``, which also have the old key ``answer``, with a warning."""

    __slots__ = ()

    def __missing__(self, key: str) -> Any:
        if key != "answer":
            raise KeyError(key)
        warnings.warn("details['answer'] of an event is now details['outcome']", DeprecationWarning, stacklevel=2)
        return self["outcome"]


ERROR_DECIDED: Final[str] = _RenamedEvent("flexmw.error.decided")


def error_decided(outcome: ErrorOutcome) -> ErrorDecided:
    """The details of :data:`ERROR_DECIDED`."""
    return cast("ErrorDecided", _ErrorDetails(outcome=outcome))


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    :param name: the name, as observers get it.
    :param details: the ``TypedDict`` of what the event carries. Its docstring says what has happened.
    :param side: who can observe the event: flows further outward (``client``), or Tagging (``server``).
    """

    name: str
    details: type
    side: Literal["client", "server"]


EVENTS: Final = {
    event.name: event
    for event in (
        Event("flexmw.retry.scheduled", RetryScheduled, "client"),
        Event("flexmw.retry.stopped", RetryStopped, "client"),
        Event("flexmw.stream.cut", StreamCut, "client"),
        Event("flexmw.stream.resumed", StreamResumed, "client"),
        Event("flexmw.stream.lost", StreamLost, "client"),
        Event("flexmw.fallback.switched", FallbackSwitched, "client"),
        Event("flexmw.pace.waited", PaceWaited, "client"),
        Event("flexmw.pace.store_operated", PaceStoreOperated, "client"),
        Event("flexmw.transport.in_process", InProcess, "client"),
        Event(ERROR_DECIDED, ErrorDecided, "server"),
        Event("flexmw.stream.held", StreamHeld, "server"),
        Event("flexmw.stream.began", StreamBegan, "server"),
        Event("flexmw.stream.ended", StreamEnded, "server"),
        Event("flexmw.rate_limiting.decided", RateLimitDecided, "server"),
        Event("flexmw.rate_limiting.slot_taken", RateLimitSlot, "server"),
        Event("flexmw.rate_limiting.slot_released", RateLimitSlot, "server"),
        Event("flexmw.rate_limiting.settled", RateLimitSettled, "server"),
        Event("flexmw.rate_limiting.storage_failed", RateLimitStoreFailed, "server"),
        Event("flexmw.idempotency.store_failed", StoreFailed, "server"),
    )
}
"""Every event that flexmw emits, by its name."""
