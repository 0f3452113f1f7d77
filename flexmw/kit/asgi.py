"""ASGI helpers that several components need: types, a whole error response in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flexmw.contract import error_headers
from flexmw.errors import APIError
from flexmw.kit.cors import send_through_cors
from flexmw.kit.exchange import Header, exchange_of

__all__ = [
    "ASGIApp",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "WrappingApp",
    "raw_headers",
    "send_error",
]

POLICY_VIOLATION = 1008


class WrappingApp:
    """An ASGI app around another one.

    What ``wrap_app`` returns is not the framework's app, and has none of its attributes. The error says where they are.
    """

    def __getattr__(self, name: str) -> Any:
        advice = (
            "instrument the app before it is wrapped: FastAPIInstrumentor.instrument_app(app), "
            "then app = flexmw.wrap_app(app)"
            if name == "build_middleware_stack"
            else "it wraps an app; ask the app that was given to flexmw.wrap_app, or use flexmw.install, which keeps it"
        )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}: {advice}", name=name, obj=self)


def raw_headers(headers: Mapping[str, str] | Sequence[tuple[str, str]] | None) -> list[Header]:
    """Headers as ASGI carries them: names in lower case, latin-1."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    return [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in pairs]


async def send_error(scope: Scope, send: Send, error: APIError, app: ASGIApp | None = None) -> None:
    """Send an error of the contract as the whole response, without running the app.

    The response leaves through the CORS middleware of ``app``, the wrapped app, if it has one.

    A websocket that is not accepted yet gets the same as a denial response where the server can send one (ASGI
    extension ``websocket.http.response``), else close code 1008.
    """
    websocket = scope["type"] == "websocket"
    if websocket and "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": error.code[:120]})
        return
    prefix = "websocket.http" if websocket else "http"
    exchange = exchange_of(scope)
    body = exchange.map_exception(error).error.encode()
    headers: list[Header] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *raw_headers(error.headers),
    ]
    if not exchange.headers_claimed:
        headers = exchange.complete(headers)
    if not exchange.enveloped:  # the Envelope adds them
        error_headers.add_error_headers(
            headers, error.status, error.body, method=scope.get("method", "GET"), retry_advice=True
        )
    start = {"type": f"{prefix}.response.start", "status": error.status, "headers": headers}
    end = {"type": f"{prefix}.response.body", "body": b"" if scope.get("method") == "HEAD" else body}
    await send_through_cors(scope, send, app, (start, end))
