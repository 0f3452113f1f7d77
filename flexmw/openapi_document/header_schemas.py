"""Schema and description of each response header that flexmw sends, for OpenAPI documents. Pure.

>>> header_schema("x-ratelimit-remaining-tokens")["description"]
'What is left of the limit.'
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["header_schema"]

_INTEGER: Final = {"type": "integer"}
_STRING: Final = {"type": "string"}

_HEADERS: Final[dict[str, tuple[dict[str, str], str]]] = {
    "retry-after": (_INTEGER, "Seconds to wait before the next request, rounded up."),
    "retry-after-ms": (_INTEGER, "The same wait in milliseconds."),
    "x-should-retry": (_STRING, "`false`: the same request must not be sent again."),
    "x-request-id": (_STRING, "The id of the request."),
    "www-authenticate": (_STRING, "How to authenticate."),
    "idempotency-key-ttl": (_INTEGER, "Seconds for which a key is honoured."),
    "idempotent-replayed": (_STRING, "`true`: the response to the first request with this key."),
    "ratelimit": (_STRING, "What is left of each limit, and when it is whole again (draft-ietf-httpapi-ratelimit)."),
    "ratelimit-policy": (_STRING, "The limits (draft-ietf-httpapi-ratelimit-headers)."),
}

_PREFIXES: Final = (
    ("x-ratelimit-limit-", "The limit."),
    ("x-ratelimit-remaining-", "What is left of the limit."),
    ("x-ratelimit-reset-", "When the limit is whole again."),
)


def header_schema(name: str) -> dict[str, Any]:
    """The header object of a response header."""
    lower = name.lower()
    prefixed = next((description for prefix, description in _PREFIXES if lower.startswith(prefix)), "")
    schema, description = _HEADERS.get(lower, (_STRING, prefixed))
    return {"schema": dict(schema), **({"description": description} if description else {})}
