#!/usr/bin/env bash
# openai's aiohttp client reports a lost response as a failed connection.
# Expected: the request was sent and read, so the error is one of reading (httpx2.ReadError or RemoteProtocolError).
# Seen: the cause is ConnectTimeout or ConnectError: a program that retries what "never connected" sends the POST twice.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'openai==3.57.0' 'httpx-aiohttp==0.2.0' 'aiohttp==3.14.5'
"$work/venv/bin/python" - <<'PYTHON'
import time
import socket
import threading


def serve(respond, times):
    """Accept so many requests on loopback; ``respond(connection)`` sends what follows each."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(20)
    requests = []

    def run():
        for _ in range(times):
            try:
                connection, _address = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(20)
                data = b""
                while b"\r\n\r\n" not in data:
                    data += connection.recv(65536)
                head, _, body = data.partition(b"\r\n\r\n")
                lines = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                while len(body) < (int(lines[0].split(b":")[1]) if lines else 0):
                    body += connection.recv(65536)
                requests.append(time.monotonic())
                respond(connection)

    threading.Thread(target=run, daemon=True).start()
    return listener.getsockname()[1], requests


import asyncio

import openai


async def main():
    port, requests = serve(lambda connection: None, 1)  # the request is read whole, then the connection is closed
    async with openai.DefaultAioHttpClient() as http:
        sdk = openai.AsyncOpenAI(api_key="k", base_url=f"http://127.0.0.1:{port}/v1", http_client=http, max_retries=0)
        try:
            await sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])
        except openai.APIConnectionError as error:
            return len(requests), type(error).__name__, type(error.__cause__).__name__
    raise SystemExit("no error")


count, error, cause = asyncio.run(main())
print(f"openai {openai.__version__}: {count} request read by the server; {error} from {cause}")
raise SystemExit(0 if count == 1 and cause in ("ConnectTimeout", "ConnectError") else 1)
PYTHON
