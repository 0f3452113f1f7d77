"""Repetitions of a request by a transport below the components, found in the events of httpcore.

A transport that retries by itself sends one request several times within one send of a component. Its repetition begins
like the request itself, by a head that goes out. httpcore sends a head twice only where the server has provably not
processed the first one.

Checked with httpcore 1.0 and httpcore2 2.16.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flexmw.kit.attempt import with_own_extensions
from flexmw.kit.effects import HEADS, Observer, is_connect

__all__ = ["REPEATS", "observed_repeats", "observed_repeats_async"]

REPEATS: Final = "flexmw.transport.repeats"
"""The event before a transport sends a request again by itself. Its details are the ``status`` and the ``headers`` of
the response to the attempt before; the status is ``None`` if that response was lost. If an observer raises, the request
is not sent."""

_RESPONDED: Final = frozenset({"http11.receive_response_headers.complete", "http2.receive_response_headers.complete"})
_FAILED: Final = (".send_request_headers.failed", ".receive_response_headers.failed")
_BODY_FAILED: Final = ".receive_response_body.failed"
_UNPROCESSED: Final = frozenset({"ConnectionNotAvailable", "LocalProtocolError"})
"""httpcore has sent nothing, or the server has not processed what it has sent."""

_ERROR: Final = 400
"""The status of an error says what the server has done, also without its body."""

_OF_HTTP2: Final = 2
"""httpcore returns status and headers over HTTP/2, and the version of the protocol before them over HTTP/1.1."""


class _Repetitions:
    """Observes one send of a component, and emits :data:`REPEATS` before a repetition."""

    def __init__(self, observe: Observer) -> None:
        self._observe = observe
        self._sent: tuple[Any, Any] | None = None
        self._status: int | None = None
        self._headers: Any = ()

    def observe(self, event: str, details: Mapping[str, Any]) -> None:
        if event in HEADS and not is_connect(details):
            request = details.get("request")
            sent = getattr(request, "method", None), getattr(getattr(request, "url", None), "target", None)
            if sent == self._sent:
                self._observe(REPEATS, {"status": self._status, "headers": self._headers})
            self._sent, self._status, self._headers = sent, None, ()
        elif event in _RESPONDED:
            received: Any = details.get("return_value") or ()
            if len(received) == _OF_HTTP2:
                self._status, self._headers = received
            elif received:
                self._status, self._headers = received[1], received[3]
        elif event.endswith(_BODY_FAILED):
            # A generator that is closed has read enough: only an error of the connection loses the response.
            if (self._status or _ERROR) < _ERROR and isinstance(details.get("exception"), Exception):
                self._status, self._headers = None, ()
        elif event.endswith(_FAILED) and type(details.get("exception")).__name__ in _UNPROCESSED:
            self._sent = None
        self._observe(event, details)


def observed_repeats(request: Any, observe: Observer, own: Any) -> Any:
    """As :func:`flexmw.kit.attempt.observed`, for a transport that may repeat requests: it reports every step."""
    observe_all = _Repetitions(observe).observe

    def trace(event: str, details: dict[str, Any]) -> None:
        if own is not None:
            own(event, details)
        observe_all(event, details)

    request = with_own_extensions(request)
    request.extensions["trace"] = trace
    return request


def observed_repeats_async(request: Any, observe: Observer, own: Any) -> Any:
    """As :func:`observed_repeats`, for an async transport."""
    observe_all = _Repetitions(observe).observe

    async def trace(event: str, details: dict[str, Any]) -> None:
        if own is not None:
            await own(event, details)
        observe_all(event, details)

    request = with_own_extensions(request)
    request.extensions["trace"] = trace
    return request
