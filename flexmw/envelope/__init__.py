"""Error normalisation: every error of an ASGI app in the format of the error contract, whatever in the app made it.

To put a header on every error response, or on every 429: :mod:`flexmw.contract.error_headers`. To map another exception
to an error: :mod:`flexmw.contract.exception_rules`. To read another error format:
:mod:`flexmw.contract.body_formats`. To write one: :mod:`flexmw.envelope.dialect`.

>>> import anyio
>>> async def app(scope, receive, send):
...     await send({"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"text/plain")]})
...     await send({"type": "http.response.body", "body": b"no such cat"})
>>> async def show(message):
...     print(message.get("status") or message.get("body"))
>>> scope = {"type": "http", "method": "GET", "path": "/cats/7", "headers": []}
>>> anyio.run(Envelope().asgi(app), scope, None, show)
404
b'{"error":{"message":"no such cat","type":"invalid_request_error","code":"not_found"}}'

Public: the names in ``__all__``. The modules of this package are private.
"""

from __future__ import annotations

from flexmw.envelope.component import Envelope
from flexmw.envelope.dialect import Dialect, OpenAI
from flexmw.envelope.flow import error_from

__all__ = ["Dialect", "Envelope", "OpenAI", "error_from"]
