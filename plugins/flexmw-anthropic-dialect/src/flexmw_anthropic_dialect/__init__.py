"""Errors as Anthropic's SDKs read them, on the paths of its Messages API; all other paths keep their dialect.

>>> from flexmw.contract import ErrorBody
>>> error = ErrorBody(message="Model not found.", type="invalid_request_error", code="model_not_found")
>>> Anthropic().render(error, status=404, request_id="req_1")
b'{"type":"error","error":{"type":"not_found_error","message":"Model not found.",\
"details":{"error_code":"model_not_found"}},"request_id":"req_1"}'
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, ClassVar

from flexmw.contract import ErrorBody, ends_whole

__all__ = ["Anthropic"]

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""The ``type`` of each status, as the API's error page has them."""

_PATHS = re.compile(r"/(?:messages|complete)(?:/|$)")


@dataclass(frozen=True, kw_only=True)
class Anthropic:
    """The dialect. ``always``: for every path; else for ``.../messages`` and what lies below it."""

    always: bool = False

    media_type: ClassVar[str] = "application/json"

    def serves(self, path: str, accept: str) -> bool:
        return self.always or bool(_PATHS.search(path))

    def keeps(self, value: object) -> bool:
        """Whether a JSON value is such an error already."""
        error = value.get("error") if isinstance(value, dict) and value.get("type") == "error" else None
        return isinstance(error, dict) and isinstance(error.get("type"), str) and isinstance(error.get("message"), str)

    def render(self, error: ErrorBody, *, status: int, request_id: str | None) -> bytes:
        """The whole error. The contract's ``code`` is ``details.error_code``, which the SDK gives as ``error_code``."""
        value = self._value(error, status)
        if request_id is not None:
            value["request_id"] = request_id
        return _encode(value)

    def event(self, error: ErrorBody, *, status: int, path: str, last: bytes) -> bytes:
        """The event ``error``, at which the SDK raises in the middle of a stream."""
        return b"event: error\ndata: " + _encode(self._value(error, status)) + b"\n\n"

    def finished(self, last: bytes) -> bool:
        """Whether the stream has ended by the API's own rules: with ``message_stop``, or with an error."""
        return ends_whole(last)

    def _value(self, error: ErrorBody, status: int) -> dict[str, Any]:
        kind = TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
        inner: dict[str, Any] = {"type": kind, "message": error.message}
        if error.code is not None:
            inner["details"] = {"error_code": error.code}
        return {"type": "error", "error": inner}


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
