#!/usr/bin/env bash
# A refusal is an empty stream in aiosseclient, and a timeout is the end of one.
# Expected: a 503 with Retry-After, and a stream that is cut by `timeout_total`, are errors to the caller, or at least
# something that a caller can ask for.
# Seen: both are a line in the log, and the loop over the events ends as after a whole stream: none for the 503, whose
# status and Retry-After are gone, and half of the text for the timeout. A connection that breaks off does raise.
# `raise_for_status=True` makes the 503 an error, and not the timeout.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'aiosseclient==0.1.8' 'aiohttp==3.14.5'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import logging
from importlib.metadata import version

import aiohttp
from aiosseclient import aiosseclient

logging.disable()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy"


async def answer(reader, writer):
    path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
    if path == b"/refused":
        writer.write(REFUSAL)
    elif path == b"/cut":
        writer.write(HEAD + b"Content-Length: 100\r\n\r\ndata: half of \n\n")
    else:
        writer.write(HEAD + b"\r\ndata: half of \n\n")
        await writer.drain()
        await reader.read()  # until the client has closed the connection
    writer.close()


async def events(url, **options):
    seen = []
    try:
        async for event in aiosseclient(url, **options):
            seen.append(event.data)
    except aiohttp.ClientError as error:
        seen.append(type(error).__name__)
    return seen


async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    seen = {"refused": await events(f"{url}/refused"), "cut": await events(f"{url}/cut")}
    seen["timeout"] = await events(f"{url}/stream", timeout_total=0.5)
    seen["timeout, raise_for_status"] = await events(f"{url}/stream", timeout_total=0.5, raise_for_status=True)
    return seen


seen = asyncio.run(main())
print(f"aiosseclient {version('aiosseclient')}: {seen}")
half = ["half of "]
expected = {"refused": [], "cut": [*half, "ClientPayloadError"], "timeout": half, "timeout, raise_for_status": half}
raise SystemExit(0 if seen == expected else "changed: a refusal and a timeout are errors")
PYTHON
