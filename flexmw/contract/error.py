"""The error object of the contract: ``{"error": {"message", "type", "param", "code", "doc_url"}}``.

>>> body = ErrorBody(message="Job not found.", type="invalid_request_error", code="job_not_found")
>>> body.encode()
b'{"error":{"message":"Job not found.","type":"invalid_request_error","code":"job_not_found"}}'
>>> ErrorBody.decode(body.encode()) == body
True
>>> ErrorBody.decode(b'{"detail": "Not Found"}') is None
True
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from flexmw.contract.error_schema import error_schema

__all__ = ["ErrorBody"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBody:
    """One error, in the shape that the OpenAI SDKs read.

    :param message: a sentence for the caller, safe to show in a user interface.
    :param type: the family of the error, such as ``invalid_request_error``.
    :param code: the machine-readable name of the error.
    :param param: the request field that is at fault. The JSON has no such key when it is ``None``.
    :param doc_url: the address of documentation about the error. The JSON has no such key when it is ``None``.
    :param members: further members of the error object that the app has written, such as ``innererror``. They follow
        the fields above in the JSON.
    :param siblings: members that the app has written beside ``error``, such as ``request_id``.
    :param placeholders: if ``message`` is the contract's own, the values of its placeholders; ``None`` if the app has
        written the message. It is not sent; see :mod:`flexmw.contract.messages`.
    """

    message: str
    type: str
    code: str | None = None
    param: str | None = None
    doc_url: str | None = None
    members: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    siblings: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    placeholders: Mapping[str, str] | None = field(default=None, compare=False, repr=False)

    def as_dict(self, *, null_param: bool = False) -> dict[str, Any]:
        """Return the whole JSON value, ``{"error": {...}}``, with its keys in the contract's order.

        :param null_param: write ``"param": null`` when it is ``None``, as OpenAI's schema requires.
        """
        error: dict[str, Any] = {"message": self.message, "type": self.type}
        if self.param is not None or null_param:
            error["param"] = self.param
        error["code"] = self.code
        if self.doc_url is not None:
            error["doc_url"] = self.doc_url
        for name, member in self.members.items():
            error.setdefault(name, member)
        return {"error": error, **{name: member for name, member in self.siblings.items() if name != "error"}}

    def encode(self, *, null_param: bool = False) -> bytes:
        """Return the JSON value in UTF-8, without spaces. A lone surrogate in a text becomes ``?``."""
        text = json.dumps(self.as_dict(null_param=null_param), ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")

    @classmethod
    def decode(cls, body: bytes) -> Self | None:
        """Read a body that is an error of the contract; ``None`` for any other body."""
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return None
        return cls.from_json(value)

    @classmethod
    def from_json(cls, value: object) -> Self | None:
        """Read a JSON value that is an error of the contract; ``None`` for any other value.

        ``message``, ``type`` and ``code`` must be there and have the right type; the other fields are optional.
        ``members`` and ``siblings`` stay empty.
        """
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

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> Any:
        """For Pydantic, and so for ``responses={404: {"model": ErrorBody}}`` of FastAPI: the whole JSON value."""
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            cls._validated, serialization=core_schema.plain_serializer_function_ser_schema(cls.as_dict)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: object, handler: object) -> dict[str, Any]:
        return error_schema()

    @classmethod
    def _validated(cls, value: object) -> Self:
        """An error, or the JSON value of one.

        :raises ValueError: it is neither.
        """
        error = value if isinstance(value, cls) else cls.from_json(value)
        if error is None:
            raise ValueError('expected {"error": {"message": ..., "type": ..., "code": ...}}')
        return error


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
