#!/usr/bin/env bash
# A client over httpx-limiter that is closed keeps its connections.
# Expected: `async with httpx.AsyncClient(transport=...)` closes the connections of its transport at its end.
# Seen: AsyncRateLimitedTransport and AsyncMultiRateLimitedTransport have no `aclose` and pass it on to nobody: after
# ten clients that were used and closed, ten connections are open at the server. httpx's own transport leaves none.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'httpx-limiter[aiolimiter]==0.6.1' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

import httpx
from httpx_limiter import AsyncRateLimitedTransport, Rate
from httpx_limiter.aiolimiter import AiolimiterAsyncLimiter

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def open_connections(transports):
    """The connections that a server still has after ten clients were used and closed."""
    tasks = set()

    async def answer(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(RESPONSE)
                await writer.drain()
        except asyncio.IncompleteReadError:  # the client has closed the connection
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for transport in transports:
        async with httpx.AsyncClient(transport=transport) as client:
            assert (await client.get(url)).text == "ok"
    _, pending = await asyncio.wait(tasks, timeout=2)
    for transport in transports:
        await getattr(transport, "_transport", transport).aclose()
    await asyncio.wait(tasks, timeout=20)
    server.close()
    return len(pending)


async def main():
    plain = [httpx.AsyncHTTPTransport() for _ in range(10)]
    limiter = AiolimiterAsyncLimiter.create(Rate.create(magnitude=100))
    limited = [AsyncRateLimitedTransport.create(limiter) for _ in range(10)]
    return await open_connections(plain), await open_connections(limited)


plain, limited = asyncio.run(main())
print(f"httpx-limiter {version('httpx-limiter')}: {limited} connections are open; httpx's own transport: {plain}")
raise SystemExit(0 if (plain, limited) == (0, 10) else "changed: a closed client closes its connections")
PYTHON
