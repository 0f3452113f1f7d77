"""ASGI mechanics that more than one component needs: the types, and a whole answer in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flexmw.errors import APIError
from flexmw.kit.exchange import Exchange, Header

__all__ = ["ASGIApp", "Message", "Receive", "Scope", "Send", "raw_headers", "send_error"]

POLICY_VIOLATION = 1008


def raw_headers(headers: Mapping[str, str] | Sequence[tuple[str, str]] | None) -> list[Header]:
    """Headers as ASGI carries them: lower-case names, latin-1."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    return [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in pairs]


async def send_error(scope: Scope, send: Send, error: APIError) -> None:
    """Answer a request with an error of the contract, without running the app.

    A websocket that is not accepted yet gets the same as a denial response where the server can send one (ASGI
    extension ``websocket.http.response``), else close code 1008.
    """
    websocket = scope["type"] == "websocket"
    if websocket and "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": error.code[:120]})
        return
    prefix = "websocket.http" if websocket else "http"
    body = error.body.encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *raw_headers(error.headers),
    ]
    await send(
        {
            "type": f"{prefix}.response.start",
            "status": error.status,
            "headers": Exchange.of(scope).complete(headers),
        }
    )
    await send({"type": f"{prefix}.response.body", "body": b"" if scope.get("method") == "HEAD" else body})
