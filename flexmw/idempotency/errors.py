"""The errors that an Idempotency responds with: errors of the contract with their own codes.

>>> KeyInProgress(1.0).code, KeyInProgress(1.0).headers
('idempotency_in_progress', {'Retry-After': '1', 'retry-after-ms': '1000', 'x-should-retry': 'true'})
>>> KeyReused().status
422
"""

from __future__ import annotations

from typing import Final

from flexmw.contract import Row, for_status, retry_headers
from flexmw.errors import APIError

__all__ = [
    "HEADER",
    "AppEnding",
    "BodyTooLarge",
    "ExecutionEnded",
    "KeyInProgress",
    "KeyInvalid",
    "KeyRequired",
    "KeyReused",
    "KeyUnknown",
    "ResponseNotStored",
    "StoreOffline",
    "StreamChanged",
    "StreamGone",
    "StreamInvalid",
    "TooManyBodies",
    "TooManyFollowers",
]

HEADER: Final = "Idempotency-Key"
_STOP: Final = {"x-should-retry": "false"}


def _row(status: int, code: str, message: str) -> Row:
    return Row(status, for_status(status).type, code, message)


class KeyRequired(APIError):
    """400: the route requires a key, and the request has none.

    :param header: the header that carries keys.
    """

    row = _row(400, "idempotency_key_required", "This request needs an Idempotency-Key header.")

    def __init__(self, header: str = HEADER) -> None:
        message = None if header == HEADER else f"This request needs an {header} header."
        super().__init__(message, param=header, headers=_STOP)


class KeyInvalid(APIError):
    """400: the key is malformed.

    :param why: what is wrong with the key.
    :param header: the header that carries keys.
    """

    row = _row(400, "idempotency_key_invalid", "The Idempotency-Key header is not valid")

    def __init__(self, why: str, header: str = HEADER) -> None:
        super().__init__(f"The {header} header is not valid: {why}.", param=header, headers=_STOP)


class BodyTooLarge(APIError):
    """413: the body of a request with a key is larger than ``max_request``."""

    row = _row(413, "request_too_large", "The request body is too large to be sent with an Idempotency-Key.")

    def __init__(self) -> None:
        super().__init__(headers=_STOP)


class KeyInProgress(APIError):
    """409: the first request with this key still runs.

    :param retry_after: seconds after which the client should try again.
    """

    row = _row(409, "idempotency_in_progress", "A request with this idempotency key is still in progress.")

    def __init__(self, retry_after: float) -> None:
        super().__init__(headers={**dict(retry_headers(retry_after)), "x-should-retry": "true"})


class KeyUnknown(APIError):
    """409: the first request with this key was cut off, and its outcome is unknown. The message has no key in it.

    :param keyed: the request has a key; without one it is the call of an SDK.
    """

    row = _row(409, "idempotency_unknown", "The outcome of the first request is unknown.")

    def __init__(self, *, keyed: bool = True) -> None:
        named = "with this idempotency key" if keyed else "of this request"
        super().__init__(
            f"The first attempt {named} was interrupted and its outcome is unknown; it was not run again. Check "
            "whether it took effect, then ask for the key to be resolved, or send the request with a new key.",
            headers=_STOP,
        )


class KeyReused(APIError):
    """422: the key was used for a different request.

    :param header: the header that carries keys.
    """

    row = _row(422, "idempotency_key_reused", "This idempotency key was already used with a different request.")

    def __init__(self, header: str = HEADER) -> None:
        super().__init__(param=header, headers=_STOP)


class ResponseNotStored(APIError):
    """409: the request was carried out, or is, and its response was too large to store.

    :param status: the HTTP status of the response.
    :param size: length of its body in bytes, so far if it is still made.
    """

    row = _row(409, "idempotency_answer_not_kept", "The response was too large to keep.")

    def __init__(self, status: int, size: int) -> None:
        super().__init__(
            f"This request was already carried out with status {status}; its response of {size} bytes was too large to "
            "keep. It was not run again.",
            headers={**_STOP, "Idempotent-Replayed": "true"},
        )


class ExecutionEnded(APIError):
    """500: the execution was ended before its response was complete: nobody read it, an operator has stopped it, or the
    app has ended."""

    row = _row(500, "idempotency_ended", "The execution was ended before its response was complete.")

    def __init__(self) -> None:
        super().__init__(headers=_STOP)


class StreamInvalid(APIError):
    """400: the field ``Idempotent-Stream`` of a request is not valid. The app has not run.

    :param why: what is wrong with the field.
    """

    row = _row(400, "idempotency_stream_invalid", "The Idempotent-Stream header is not valid.")

    def __init__(self, why: str) -> None:
        super().__init__(f"The Idempotent-Stream header is not valid: {why}.", param="Idempotent-Stream", headers=_STOP)


class StreamChanged(APIError):
    """409: another execution than the one whose response is to be continued has the key."""

    row = _row(
        409,
        "idempotency_stream_changed",
        "The response cannot be continued: another execution with this idempotency key has begun meanwhile.",
    )

    def __init__(self) -> None:
        super().__init__(headers=_STOP)


class StreamGone(APIError):
    """410: nothing is known of the key whose response is to be continued. The app has not run."""

    row = _row(
        410,
        "idempotency_stream_gone",
        "The response cannot be continued: the server holds nothing under this idempotency key for this caller. It "
        "has expired, or was lost. The request was not run again.",
    )

    def __init__(self) -> None:
        super().__init__(headers=_STOP)


class TooManyFollowers(APIError):
    """503: as many clients as ``max_followers`` allows follow the response already."""

    row = _row(503, "service_unavailable", "Too many clients follow this response; the request was not run.")

    def __init__(self) -> None:
        super().__init__(headers=dict(retry_headers(1.0)))


class StoreOffline(APIError):
    """503: the store does not respond, so the request was not run."""

    row = _row(503, "service_unavailable", "The idempotency store is temporarily offline; the request was not run.")

    def __init__(self) -> None:
        super().__init__(headers=dict(retry_headers(1.0)))


class AppEnding(APIError):
    """503: the app is about to end, so the request was not run."""

    row = _row(503, "service_unavailable", "The server is about to stop; the request was not run.")

    def __init__(self) -> None:
        super().__init__(headers=dict(retry_headers(1.0)))


class TooManyBodies(APIError):
    """503: the bodies of all requests that are being read reach ``max_reading``. The request was not run."""

    row = _row(503, "service_unavailable", "Too many request bodies are being read; the request was not run.")

    def __init__(self) -> None:
        super().__init__(headers=dict(retry_headers(1.0)))
