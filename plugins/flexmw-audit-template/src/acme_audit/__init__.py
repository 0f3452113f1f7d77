"""Leave a mark on every request and one line in the log: a flexmw component to copy.

>>> Audit(header="x-acme-audit").header
'x-acme-audit'
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import ClassVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

import flexmw

__all__ = ["Audit"]

_log = logging.getLogger("acme_audit")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Its options are its fields.

    :param header: the header that is set on responses (server) and on requests (client).
    :raises flexmw.ConfigError: ``header`` is no header name (RFC 9110 section 5.6.2).
    """

    name: ClassVar[str] = "acme.audit"
    api: ClassVar[int] = 1
    order: ClassVar[flexmw.Order] = flexmw.Order(after=("envelope",), before=("ratelimit",))

    header: str = "x-audit"

    def __post_init__(self) -> None:
        if not _is_header_name(self.header):
            raise flexmw.ConfigError("Audit(header=...)", self.header, "the name of an HTTP header")

    def asgi(self, app: ASGIApp) -> ASGIApp:
        """Server side: return an ASGI app around an ASGI app."""
        mark = (self.header.lower().encode(), b"1")

        async def audited(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return

            async def marking(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _log.info("%s %s: %d", scope["method"], scope["path"], message["status"])
                    message = {**message, "headers": [*message.get("headers", ()), mark]}
                await send(message)

            await app(scope, receive, marking)

        return audited

    def flow(self, request: flexmw.Request) -> flexmw.Flow:
        """Client side: one generator that the transports of httpx and httpx2 run, sync and async."""
        request.headers[self.header] = "1"
        response = yield from flexmw.send(request)
        _log.info("%s %s: %d", request.method, request.url.path, response.status_code)
        return response


def _is_header_name(value: object) -> bool:
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None
