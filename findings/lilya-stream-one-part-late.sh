#!/usr/bin/env bash
# Lilya sends each part of a stream when the next part is there.
# Expected: a part that the app yields is sent at once, as by Starlette's StreamingResponse.
# Seen: the generator is asked for its second part before the first one is sent. An event stream is one event late all
# the time, by as long as the next event takes; a stream that fails before its second event sends no event at all.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'lilya==0.29.0' 'starlette==1.10.0'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

from lilya.responses import StreamingResponse as LilyaResponse
from starlette.responses import StreamingResponse as StarletteResponse

SCOPE = {"type": "http", "method": "GET", "path": "/", "headers": [], "asgi": {"version": "3.0", "spec_version": "2.4"}}


async def log_of(response_class):
    """What happens in which order while a stream of three events is sent."""
    log = []

    async def events():
        for number in range(3):
            log.append(f"yield {number}")
            yield f"data: {number}\n\n"

    async def send(message):
        if message["type"] == "http.response.body" and message["body"]:
            log.append(f"send {message['body'].decode()[6]}")

    async def receive():
        await asyncio.sleep(3600)

    await asyncio.wait_for(response_class(events(), media_type="text/event-stream")(SCOPE, receive, send), 20)
    return log


lilya, starlette = (asyncio.run(log_of(each)) for each in (LilyaResponse, StarletteResponse))
print(f"lilya {version('lilya')}: {lilya}; starlette {version('starlette')}: {starlette}")
late = ["yield 0", "yield 1", "send 0", "yield 2", "send 1", "send 2"]
at_once = ["yield 0", "send 0", "yield 1", "send 1", "yield 2", "send 2"]
raise SystemExit(0 if (lilya, starlette) == (late, at_once) else "changed: a part is sent at once")
PYTHON
