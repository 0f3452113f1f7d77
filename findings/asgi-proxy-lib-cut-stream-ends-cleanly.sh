#!/usr/bin/env bash
# Half a stream of an upstream is a whole one behind asgi-proxy-lib.
# Expected: the upstream's connection breaks off inside a chunked body, so the client's does too, and httpx raises
# RemoteProtocolError, as it does without the proxy.
# Seen: the proxy sends the end of a body: a 200 whose half an event stream is complete for the client. With `log` it
# writes a line at INFO, which says that the client has disconnected; without it none.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'asgi-proxy-lib==0.2a0' 'httpx==0.28.1' 'uvicorn==0.54.0'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import logging
import socket
from importlib.metadata import version

import httpx
import uvicorn
from asgi_proxy import asgi_proxy

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b"data: half of \n\n"
lines = []


class Lines(logging.Handler):
    def emit(self, record):
        lines.append(f"{record.levelname} {record.getMessage()}")


async def upstream(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(HEAD + f"{len(EVENT):x}\r\n".encode() + EVENT + b"\r\n")
    await writer.drain()
    writer.close()


async def post(url):
    async with httpx.AsyncClient() as client:
        try:
            response = await client.post(url)
        except httpx.RemoteProtocolError as error:
            return type(error).__name__
        return response.status_code, response.content


async def main():
    log = logging.getLogger("proxy")
    log.addHandler(Lines())
    log.setLevel(logging.INFO)
    listener = await asyncio.start_server(upstream, "127.0.0.1", 0)
    backend = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(asgi_proxy(backend, log=log), log_level="error"))
    bound = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve([bound]))
    seen = await post(f"{backend}/chat"), await post(f"http://127.0.0.1:{bound.getsockname()[1]}/chat")
    server.should_exit = True
    await serving
    return seen


direct, behind = asyncio.run(main())
said = [line for line in lines if "disconnected" in line]
print(f"asgi-proxy-lib {version('asgi-proxy-lib')}: without it {direct}; behind it {behind}; its line: {said}")
as_stated = direct == "RemoteProtocolError" and behind == (200, EVENT) and len(said) == 1 and "INFO" in said[0]
raise SystemExit(0 if as_stated else "changed: a stream that was cut is cut for the client")
PYTHON
