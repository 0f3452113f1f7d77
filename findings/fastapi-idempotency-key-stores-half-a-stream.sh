#!/usr/bin/env bash
# fastapi-idempotency-key stores the beginning of a stream as the response of its key when the client leaves.
# Expected: a client that lost its connection and repeats the request gets the whole response, or an error.
# Seen: Starlette's StreamingResponse returns when the client is gone, and what has been sent until then is stored as
# complete. The repetition gets a 200 with two events of five and a Content-Length that agrees.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'fastapi-idempotency-key==0.1.1' 'fastapi==0.165.0' 'starlette==1.10.0'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from fastapi_idempotency_key import IdempotencyMiddleware
from fastapi_idempotency_key.backends.memory import MemoryBackend

EVENTS = [b"data: %d\n\n" % number for number in range(5)]
SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "method": "POST",
    "path": "/chat",
    "raw_path": b"/chat",
    "query_string": b"",
    "headers": [(b"idempotency-key", b"one")],
}
app = FastAPI()
left = asyncio.Event()


@app.post("/chat")
async def chat():
    async def events():
        for number, event in enumerate(EVENTS):
            if number == 2:
                left.set()  # the client has read two events
                await asyncio.sleep(5)
            yield event

    return StreamingResponse(events(), media_type="text/event-stream")


app.add_middleware(IdempotencyMiddleware, backend=MemoryBackend())


async def request(leaves):
    body, read = b"", False

    async def receive():
        nonlocal read
        if not read:
            read = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await (left.wait() if leaves else asyncio.Event().wait())
        return {"type": "http.disconnect"}

    async def send(message):
        nonlocal body
        body += message.get("body", b"")

    await asyncio.wait_for(app(dict(SCOPE), receive, send), 20)
    return body.count(b"data:")


async def main():
    return await request(leaves=True), await request(leaves=False)


counts = asyncio.run(main())
name = "fastapi-idempotency-key"
print(f"{name} {version(name)}: events sent to the client that left, and in the replay: {counts}")
raise SystemExit(0 if counts == (2, 2) else "changed: half a stream is no response")
PYTHON
