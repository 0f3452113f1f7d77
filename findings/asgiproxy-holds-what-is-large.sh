#!/usr/bin/env bash
# asgiproxy streams a small upload and keeps a large one in memory, and holds a stream back whose status is not 200.
# Expected: what is large, or has no length, is passed on part by part; a body below the package's threshold of 512 KiB
# may be read whole.
# Seen: the comparison is the other way round: the upstream of an upload with Content-Length 600000 is not called before
# the last byte, that of one with 1000 bytes is called at once. An event stream that begins with 201 or 202 reaches the
# client at its end, in one part.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'asgiproxy==0.2.0' 'aiohttp==3.14.5' 'starlette==1.10.0'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

from asgiproxy.config import BaseURLProxyConfigMixin, ProxyConfig
from asgiproxy.context import ProxyContext
from asgiproxy.simple_proxy import make_simple_proxy_app


async def exchange(length, status):
    """Whether the upstream is called inside the upload, and whether the first event arrives inside the stream."""
    called, go_on, arrived = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def upstream(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        called.set()
        await reader.readexactly(length)
        writer.write(b"HTTP/1.1 %d OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" % status)
        writer.write(b"data: 1\n\n")
        await writer.drain()
        await go_on.wait()
        writer.write(b"data: 2\n\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(upstream, "127.0.0.1", 0)
    config = type("Config", (BaseURLProxyConfigMixin, ProxyConfig), {})()
    config.upstream_base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    half = length // 2
    upload = iter([{"body": b"a" * half, "more_body": True}, {"body": b"a" * (length - half), "more_body": False}])
    inside = {}

    async def receive():
        part = next(upload, None)
        if part is None:
            await asyncio.Event().wait()
        if not part["more_body"]:
            inside["upload"] = await within_a_second(called)
        return {"type": "http.request", **part}

    async def send(message):
        if message.get("body"):
            arrived.set()

    async def within_a_second(event):
        try:
            await asyncio.wait_for(event.wait(), 1)
        except TimeoutError:
            return False
        return True

    headers = [(b"host", b"shop.example"), (b"content-length", str(length).encode())]
    scope = {"type": "http", "method": "POST", "path": "/orders", "query_string": b"", "headers": headers}
    async with ProxyContext(config) as context:
        exchanging = asyncio.create_task(make_simple_proxy_app(context)(scope, receive, send))
        await asyncio.wait_for(called.wait(), 20)
        inside["stream"] = await within_a_second(arrived)
        go_on.set()
        await exchanging
    server.close()
    return inside["upload"], inside["stream"]


async def main():
    return {case: await exchange(*case) for case in ((1000, 200), (600_000, 200), (1000, 201))}


seen = asyncio.run(main())
print(f"asgiproxy {version('asgiproxy')}: (length, status): (upload is streamed, response is streamed): {seen}")
expected = {(1000, 200): (True, True), (600_000, 200): (False, True), (1000, 201): (True, False)}
raise SystemExit(0 if seen == expected else "changed: what is large is streamed, whatever the status")
PYTHON
