"""The JSON Schema of an error response, for OpenAPI documents. Pure.

>>> error_schema()["required"]
['error']
>>> error_schema()["properties"]["error"]["properties"]["code"]["type"]
['string', 'null']
"""

from __future__ import annotations

from typing import Any

__all__ = ["error_schema"]


def error_schema(*, null_param: bool = False, null_keyword: bool = False) -> dict[str, Any]:
    """The schema of ``{"error": {...}}``.

    :param null_param: ``param`` is always there, and ``null`` where it is unknown.
    :param null_keyword: write ``"nullable": true`` as OpenAPI 3.0 does, instead of the type ``null`` of JSON Schema.
    """

    def text(description: str, *, null: bool = False) -> dict[str, Any]:
        kind: dict[str, Any] = {"type": ["string", "null"] if null and not null_keyword else "string"}
        if null and null_keyword:
            kind["nullable"] = True
        return {**kind, "description": description}

    members = {
        "message": text("A sentence that is safe to show to a user."),
        "type": text("The family of the error, such as `invalid_request_error`."),
        "param": text("The request field that is at fault.", null=null_param),
        "code": text("The machine-readable name of the error.", null=True),
        "doc_url": text("The address of documentation about the error."),
    }
    required = ["message", "type", "code", *(["param"] if null_param else [])]
    error = {"type": "object", "properties": members, "required": required}
    return {"type": "object", "properties": {"error": error}, "required": ["error"], "title": "ErrorResponse"}
