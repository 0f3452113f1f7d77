"""The response that the client of the first request gets when the app raises: the stored response must be the same.

The rules are not here: ``exchange.map_exception`` maps the exception, as it does for Envelope, and
:mod:`flexmw.contract.bodies` knows which bodies state nothing.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from starlette.exceptions import HTTPException

from flexmw.contract import ErrorBody, bodies, for_status
from flexmw.contract.exceptions import stands_for
from flexmw.contract.partial import PartialError
from flexmw.contract.text import contains_text_of
from flexmw.errors import APIError
from flexmw.idempotency.core import StoredResponse
from flexmw.kit.asgi import raw_headers
from flexmw.kit.exchange import Exchange, Header

__all__ = ["is_bare", "is_final", "is_held_back", "is_rewritten", "response_to", "swallowed_error", "without_crash"]


def response_to(
    error: Exception, exchange: Exchange, response: StoredResponse | None = None
) -> tuple[int, bytes, list[Header]]:
    """Status, body and headers of the error response to an exception of the app.

    A disconnect that the app raises has no response. The work has begun, so a 500 is stored for it. Without an
    Envelope the server has responded to a framework's ``HTTPException``, without its detail; so the detail of a 5xx,
    which may name a machine, is not stored.

    :param response: the framework's response to an ``APIError``. The app's own words in it stay.
    """
    mapping = exchange.map_exception(error)
    status, body = mapping.status, mapping.error
    if mapping.gone:
        row = for_status(500)
        status, body = row.status, ErrorBody(message=row.message, type=row.type, code=row.code)
    elif status >= 500 and isinstance(error, HTTPException) and not (exchange.enveloped or isinstance(error, APIError)):
        body = replace(body, message=for_status(status).message)
    if response is not None and isinstance(error, APIError):
        read = bodies.read_response(_raw(response), response.body, response.status)
        body = bodies.in_own_words(body, error.body, read.found, response.status)
    return status, body.encode(), raw_headers(mapping.headers)


def swallowed_error(exchange: Exchange, status: int, response: StoredResponse | None = None) -> APIError | None:
    """The ``APIError`` that the framework has turned into a response, if an Envelope outside sends that error instead.

    :param status: the status of the response.
    :param response: the response, once it is complete.
    """
    error = exchange.remembered
    if error is None:
        return None
    says_nothing = response is None or response.body is None or _is_bare(response, None)
    return error if stands_for(error.status, status, says_nothing=says_nothing) else None


def without_crash(response: StoredResponse, exchange: Exchange) -> bytes | None:
    """The body of a 5xx without the text of the exception that the app handles now, and without further members.
    ``None``: the body stays as it is.

    An Envelope outside leaves them out of the response to the first client; ``exchange.handled`` names the exception to
    it. It has none to compare the stored response with when that is sent again.
    """
    error = sys.exception()
    if error is None or not (exchange.enveloped and response.body is not None and issubclass(type(error), Exception)):
        return None
    read = bodies.read_response(_raw(response), response.body, response.status)
    stated = read.found
    if bodies.is_envelope(read.value) or not isinstance(stated, PartialError) or _is_bare(response, None):
        return None
    if exchange.map_exception(error).intentional:
        return None
    exchange.handled = error, response.body
    message = None if contains_text_of(error, stated.message) else stated.message
    return bodies.complete(replace(stated, message=message, members={}, siblings={}), response.status).encode()


def is_final(response: StoredResponse) -> bool:
    """True if an Envelope outside leaves an error response as it is: it is of the contract, or of another protocol."""
    read = bodies.read_response(_raw(response), response.body, response.status)
    return bodies.is_envelope(read.value) or read.found is bodies.FOREIGN


def is_rewritten(response: StoredResponse, exchange: Exchange) -> bool:
    """True if an Envelope outside writes the body of an error response anew, and its length with it."""
    return response.status >= 400 and exchange.enveloped and response.body is not None and not is_final(response)


def is_bare(response: StoredResponse, error: Exception, exchange: Exchange, *, status: int) -> bool:
    """True if an Envelope outside sends the error of an exception instead of the response that the app has sent.

    :param response: that response, as it would be stored.
    :param status: the status of that response.
    """
    return status == 500 and exchange.enveloped and (response.body is None or _is_bare(response, error))


def is_held_back(exchange: Exchange, *, size: int) -> bool:
    """True if an Envelope outside has not sent the start of a stream yet, and sends the error in its place.

    :param size: bytes of the stream that the Envelope was sent.
    """
    return size == 0 and exchange.stream is not None and not exchange.stream.opened


def _is_bare(response: StoredResponse, error: Exception | None) -> bool:
    return bodies.is_bare(_raw(response), response.body or b"", error)


def _raw(response: StoredResponse) -> list[Header]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
