"""Every error of an ASGI app in the contract's shape, whoever in it has made the error.

>>> import anyio
>>> async def host(scope, receive, send):
...     await send({"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"text/plain")]})
...     await send({"type": "http.response.body", "body": b"no such cat"})
>>> async def show(message):
...     print(message.get("status") or message.get("body"))
>>> scope = {"type": "http", "method": "GET", "path": "/cats/7", "headers": []}
>>> anyio.run(Envelope().asgi(host), scope, None, show)
404
b'{"error":{"message":"no such cat","type":"invalid_request_error","code":"not_found"}}'
"""

from __future__ import annotations

from flexmw.envelope.component import Envelope
from flexmw.envelope.dialect import Dialect, OpenAI
from flexmw.envelope.flow import error_from

__all__ = ["Dialect", "Envelope", "OpenAI", "error_from"]
