"""How an execution ends: with a response that is stored, or with the key given back because nothing was done.

The rule behind every function here: a replay is the response that the client of the first request got. When the app
raises, that is the response of the Envelope outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flexmw.errors import APIError
from flexmw.idempotency.core import StoredResponse
from flexmw.idempotency.outcome import is_final, is_held_back, response_to, swallowed_error
from flexmw.idempotency.recording import ResponseRecorder
from flexmw.idempotency.stored import error_response, is_stored
from flexmw.kit.asgi import raw_headers
from flexmw.kit.exchange import Exchange, Header

__all__ = ["Completion", "after_exception", "after_response", "stores", "without_response"]


@dataclass(frozen=True, slots=True)
class Completion:
    """The end of an execution.

    :param response: the response that the client of the first request was sent.
    :param released: the response says that nothing was done. It is not stored, and the key can be used again.
    """

    response: StoredResponse
    released: bool = False

    @property
    def result(self) -> str:
        """The value of the span attribute ``flexmw.idempotency.result``."""
        return "released" if self.released else "stored"


def stores(status: int, headers: Sequence[Header], exchange: Exchange, *, is_anonymous: bool = False) -> bool:
    """Whether a response with this status and these headers will be stored, as soon as it has begun.

    :param is_anonymous: the caller has shown no credential.
    """
    return _stores(status, headers, swallowed_error(exchange, status), is_anonymous)


def after_response(recorder: ResponseRecorder, exchange: Exchange, *, is_anonymous: bool = False) -> Completion:
    """The completion after the app has sent a complete response.

    :param is_anonymous: the caller has shown no credential.
    """
    response = recorder.complete()
    error = swallowed_error(exchange, recorder.status, response)
    if error is not None and response.body is not None and is_final(response):
        error = None
    released = not _stores(recorder.status, recorder.headers, error, is_anonymous)
    if error is not None and response.body is not None:
        status, body, headers = response_to(error, exchange, response)
        response = error_response(status, body, (*headers, *recorder.headers))
    return Completion(response, released)


def after_exception(
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
    if (
        recorder.started
        and not is_complete
        and not is_held_back(exchange, headers=recorder.headers, size=recorder.size)
    ):
        return Completion(recorder.broken_off(body))
    return Completion(
        error_response(status, body, headers), released=not is_stored(status, headers, is_anonymous=is_anonymous)
    )


def without_response(recorder: ResponseRecorder, exchange: Exchange) -> Completion:
    """The completion after the app has returned without a complete response."""
    status, body, headers = response_to(RuntimeError("no response"), exchange)
    error = error_response(status, body, headers)
    return Completion(recorder.broken_off(error.body or b"") if recorder.started else error)


def _stores(status: int, headers: Sequence[Header], error: APIError | None, is_anonymous: bool) -> bool:
    if error is not None:
        status, headers = error.status, [*headers, *raw_headers(error.headers)]
    return is_stored(status, headers, is_anonymous=is_anonymous)
