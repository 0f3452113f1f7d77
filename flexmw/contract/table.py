"""The error contract as a table: status, type, code and message of each kind of error and of each bare status.

The statuses, types and codes are those of OpenAI's API. The messages name no provider: an application sets its own with
``Envelope(messages=...)``.

>>> from flexmw.contract import PAGE, for_status
>>> PAGE["job_not_found"].status, for_status(404).code
(404, 'not_found')
>>> for_status(418)
Row(status=418, type='invalid_request_error', code='http_418', message="I'm a Teapot.", retry=None)
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

__all__ = ["OWN", "PAGE", "STATUS", "Row", "for_status"]


@dataclass(frozen=True, slots=True)
class Row:
    """Status, type, code and message of an error.

    :param retry: when to send ``x-should-retry: false``. ``"never"``: with every such error. ``"keyed"``: only if the
        request has an unsafe method and no idempotency key, because its work may have been done. ``None``: not at all.
    """

    status: int
    type: str
    code: str
    message: str
    retry: Literal["never", "keyed"] | None = None


_CLIENT, _SERVER = "invalid_request_error", "server_error"

PAGE: dict[str, Row] = {
    "invalid_request": Row(400, _CLIENT, "invalid_request", "Invalid request."),
    "model_not_found": Row(
        400,
        _CLIENT,
        "model_not_found",
        "Invalid 'model'. The model '{model}' does not exist or you do not have access.",
    ),
    "invalid_api_key": Row(401, "authentication_error", "invalid_api_key", "Invalid API key provided."),
    "insufficient_credit": Row(
        402, "insufficient_quota", "402", "Insufficient credit. Add funds to continue.", "never"
    ),
    "job_not_found": Row(404, _CLIENT, "job_not_found", "Job not found."),
    "rate_limit_exceeded": Row(
        429, "rate_limit_error", "rate_limit_exceeded", "Rate limit exceeded. Retry after {seconds} second{s}."
    ),
    "upstream_timeout": Row(500, _SERVER, "upstream_timeout", "Upstream model timed out.", "keyed"),
    "subsystem_offline": Row(503, _SERVER, "service_unavailable", "{name} is temporarily offline."),
}
"""One row per kind of error that an app can raise. The kind fills the placeholders in braces."""

OWN: dict[str, Row] = {
    "invalid_json": Row(400, _CLIENT, "invalid_json", "The request body is not valid JSON."),
    "unknown_url": Row(404, _CLIENT, "unknown_url", "Unknown URL: no route has this path."),
}
"""One row per error that flexmw finds out for itself, by code."""

STATUS: dict[int, Row] = {
    row.status: row
    for row in (
        Row(400, _CLIENT, "invalid_request", "Bad request."),
        Row(401, "authentication_error", "invalid_api_key", "Invalid API key provided."),
        PAGE["insufficient_credit"],
        Row(403, "permission_error", "permission_denied", "You do not have permission to do this."),
        Row(404, _CLIENT, "not_found", "Not found."),
        Row(405, _CLIENT, "method_not_allowed", "Method not allowed."),
        Row(406, _CLIENT, "not_acceptable", "Not acceptable."),
        Row(408, _CLIENT, "request_timeout", "The request took too long to arrive."),
        Row(409, _CLIENT, "conflict", "The request conflicts with the current state.", "never"),
        Row(410, _CLIENT, "gone", "Gone."),
        Row(412, _CLIENT, "precondition_failed", "Precondition failed."),
        Row(413, _CLIENT, "request_too_large", "The request body is too large."),
        Row(414, _CLIENT, "uri_too_long", "The request target is too long."),
        Row(415, _CLIENT, "unsupported_media_type", "Unsupported media type."),
        Row(416, _CLIENT, "range_not_satisfiable", "The requested range cannot be satisfied."),
        Row(422, _CLIENT, "validation_error", "The request did not pass validation."),
        Row(425, _CLIENT, "too_early", "Too early."),
        Row(428, _CLIENT, "precondition_required", "Precondition required."),
        Row(429, "rate_limit_error", "rate_limit_exceeded", "Rate limit exceeded."),
        Row(431, _CLIENT, "headers_too_large", "The request headers are too large."),
        Row(451, "permission_error", "unavailable_for_legal_reasons", "Unavailable for legal reasons."),
        Row(499, _CLIENT, "client_closed_request", "The client closed the request."),
        Row(500, _SERVER, "internal_error", "Internal server error.", "keyed"),
        Row(501, _SERVER, "not_implemented", "Not implemented.", "never"),
        Row(502, _SERVER, "bad_gateway", "Bad gateway.", "keyed"),
        Row(503, _SERVER, "service_unavailable", "Service unavailable."),
        Row(504, _SERVER, "upstream_timeout", "Upstream model timed out.", "keyed"),
    )
}
"""The row of a status, for an error response of which nothing but the status is known."""


def for_status(status: int) -> Row:
    """Return the row of an error status. A status without a row of its own gets the code ``http_NNN``."""
    row = STATUS.get(status)
    if row is not None:
        return row
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = f"HTTP {status}"
    server = status >= 500
    return Row(status, _SERVER if server else _CLIENT, f"http_{status}", f"{phrase}.", "keyed" if server else None)
