"""The error object of the contract: ``{"error": {"message", "type", "param", "code", "doc_url"}}``.

>>> body = ErrorBody(message="Video job not found.", type="invalid_request_error", code="job_not_found")
>>> body.encode()
b'{"error":{"message":"Video job not found.","type":"invalid_request_error","code":"job_not_found"}}'
>>> ErrorBody.decode(body.encode()) == body
True
>>> ErrorBody.decode(b'{"detail": "Not Found"}') is None
True
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self

__all__ = ["ErrorBody"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBody:
    """One error as the OpenAI SDKs read it.

    ``param`` names the offending request field; ``doc_url`` points at documentation. Both are left out of the JSON
    when unknown, as the provider's page does; ``null_param=True`` writes the key always, as OpenAI's schema asks.
    """

    message: str
    type: str
    code: str | None = None
    param: str | None = None
    doc_url: str | None = None

    def as_dict(self, *, null_param: bool = False) -> dict[str, Any]:
        """The whole JSON value, ``{"error": {...}}``, keys in the contract's order."""
        error: dict[str, Any] = {"message": self.message, "type": self.type}
        if self.param is not None or null_param:
            error["param"] = self.param
        error["code"] = self.code
        if self.doc_url is not None:
            error["doc_url"] = self.doc_url
        return {"error": error}

    def encode(self, *, null_param: bool = False) -> bytes:
        """The value as compact UTF-8 JSON; a lone surrogate in a text becomes ``?`` instead of an exception."""
        text = json.dumps(self.as_dict(null_param=null_param), ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")

    @classmethod
    def decode(cls, body: bytes) -> Self | None:
        """Read a body that already keeps the contract; ``None`` for any other body."""
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return None
        return cls.from_json(value)

    @classmethod
    def from_json(cls, value: object) -> Self | None:
        """The same for a JSON value: strict about ``message``, ``type`` and ``code``, lenient about the rest."""
        error = value.get("error") if isinstance(value, dict) else None
        if not isinstance(error, dict) or "code" not in error:
            return None
        message, kind, code = error.get("message"), error.get("type"), error["code"]
        if not (isinstance(message, str) and isinstance(kind, str) and (code is None or isinstance(code, str))):
            return None
        return cls(
            message=message,
            type=kind,
            code=code,
            param=_text(error.get("param")),
            doc_url=_text(error.get("doc_url")),
        )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
