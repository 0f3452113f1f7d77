"""How an execution ends: with a response that is stored, or with the key given back because nothing was done.

The rule behind every function here: a replay is the response that the client of the first request got. When the app
raises, that is the response of the Envelope outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flexmw.errors import APIError
from flexmw.idempotency.core import StoredResponse
from flexmw.idempotency.outcome import (
    is_bare,
    is_final,
    is_held_back,
    is_rewritten,
    response_to,
    swallowed_error,
    without_crash,
)
from flexmw.idempotency.recording import ResponseRecorder
from flexmw.idempotency.stored import error_response, is_stored
from flexmw.kit.asgi import raw_headers
from flexmw.kit.exchange import Exchange, Header

__all__ = ["Completion", "after_response", "at_the_end", "is_end_held", "stores"]


@dataclass(slots=True)
class Completion:
    """The end of an execution.

    :param response: the response that the client of the first request was sent.
    :param released: the response says that nothing was done. It is not stored, and the key can be used again.
    :param last_unit: what ends the stream of an app that broke it off; ``None`` for any other response.
    """

    response: StoredResponse
    released: bool = False
    last_unit: bytes | None = None

    @property
    def result(self) -> str:
        """The value of the span attribute ``flexmw.idempotency.result``."""
        return "released" if self.released else "stored"


def stores(status: int, headers: Sequence[Header], exchange: Exchange, *, is_anonymous: bool = False) -> bool:
    """Whether a response with this status and these headers will be stored, as soon as it has begun.

    :param is_anonymous: the caller has shown no credential.
    """
    if exchange.remembered is None:
        return is_stored(status, headers, is_anonymous=is_anonymous)
    return _stores(status, headers, swallowed_error(exchange, status), is_anonymous)


def after_response(recorder: ResponseRecorder, exchange: Exchange, *, is_anonymous: bool = False) -> Completion:
    """The completion after the app has sent a complete response.

    :param is_anonymous: the caller has shown no credential.
    """
    response, length = recorder.complete(), recorder.length
    if length is not None and length > response.size and recorder.is_cut and not is_rewritten(response, exchange):
        response = recorder.internal_error()
    if recorder.status >= 500 and (body := without_crash(response, exchange)) is not None:
        response = error_response(recorder.status, body, replaced=recorder.headers)
    if exchange.remembered is None:
        return Completion(response, not is_stored(recorder.status, recorder.headers, is_anonymous=is_anonymous))
    error = swallowed_error(exchange, recorder.status, response)
    if error is not None and response.body is not None and is_final(response):
        error = None
    released = not _stores(recorder.status, recorder.headers, error, is_anonymous)
    if error is not None and response.body is not None:
        status, body, headers = response_to(error, exchange, response)
        response = error_response(status, body, headers, replaced=recorder.headers)
    return Completion(response, released)


def at_the_end(
    completion: Completion | None,
    error: Exception | None,
    recorder: ResponseRecorder,
    exchange: Exchange,
    *,
    is_end_held: bool,
    is_anonymous: bool = False,
) -> Completion:
    """The completion after the app has returned or raised: ``completion``, if that stands.

    Frameworks respond to a crash with a bare 500 and raise. Envelope sends its own response instead of that 500.

    :param completion: the completion after the response, if the app has sent a complete one.
    :param error: what the app has raised.
    :param is_end_held: an Envelope outside holds the end of the stream, and ends it with the error.
    :param is_anonymous: the caller has shown no credential.
    """
    if error is not None and (
        completion is None or is_end_held or is_bare(completion.response, error, exchange, status=recorder.status)
    ):
        is_complete = completion is not None and not is_end_held
        return _after_exception(error, recorder, exchange, is_complete=is_complete, is_anonymous=is_anonymous)
    return _without_response(recorder, exchange) if completion is None else completion


def is_end_held(recorder: ResponseRecorder, exchange: Exchange) -> bool:
    """Whether an Envelope outside holds the end of the stream: it ends with an error if the app still raises."""
    stream = exchange.stream
    return recorder.is_framed and stream is not None and not stream.ended


def _after_exception(
    error: Exception,
    recorder: ResponseRecorder,
    exchange: Exchange,
    *,
    is_complete: bool,
    is_anonymous: bool = False,
) -> Completion:
    """The completion after the app has raised.

    :param is_complete: whether the app had sent a complete response before it raised.
    :param is_anonymous: the caller has shown no credential.
    """
    status, body, headers = response_to(error, exchange)
    if recorder.started and not is_complete and not is_held_back(exchange, size=recorder.size):
        return _broken_off(recorder, exchange, error, body)
    return Completion(
        error_response(status, body, headers), released=not is_stored(status, headers, is_anonymous=is_anonymous)
    )


def _without_response(recorder: ResponseRecorder, exchange: Exchange) -> Completion:
    """The completion after the app has returned without a complete response."""
    error = RuntimeError("no response")
    status, body, headers = response_to(error, exchange)
    if recorder.started:
        return _broken_off(recorder, exchange, error, body)
    return Completion(error_response(status, body, headers))


def _broken_off(recorder: ResponseRecorder, exchange: Exchange, error: Exception, body: bytes) -> Completion:
    """The completion of a response that the app has broken off.

    :param body: the JSON of the error.
    """
    stream = exchange.stream
    if stream is None:
        last_unit = b"event: error\ndata: " + body + b"\n\n"
    else:
        # An Envelope sends nothing more where the client has left. The stored stream still ends with an error.
        cause = RuntimeError("no response") if exchange.map_exception(error).gone else error
        last_unit = stream.failed_end(cause, recorder.last)
    return Completion(recorder.broken_off(last_unit), last_unit=last_unit)


def _stores(status: int, headers: Sequence[Header], error: APIError | None, is_anonymous: bool) -> bool:
    if error is not None:
        status, headers = error.status, [*headers, *raw_headers(error.headers)]
    return is_stored(status, headers, is_anonymous=is_anonymous)
