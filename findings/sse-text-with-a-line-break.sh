#!/usr/bin/env bash
# A text with a line break loses what follows the break in four frameworks' event streams.
# Expected: a text of two lines is an event of two `data` lines, which a client joins again (HTML, section 9.2.6), as
# sse-starlette writes it.
# Seen: falcon, microdot and emmett-core write the text into one `data` line as it is: the second line is a field without a
# name, which each client drops, and a token that is a line break is an empty one. blacksheep's TextServerSentEvent sends
# the two characters \ and n.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'falcon==4.4.0' 'microdot==2.7.0' 'emmett-core==1.4.6' 'blacksheep==2.6.4' \
  'sse-starlette==3.7.0' 'httpx==0.28.1' 'httpx-sse==0.4.3'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

import blacksheep.scribe
import falcon.asgi
import httpx
import httpx_sse
import microdot.asgi
import microdot.sse
import sse_starlette
from blacksheep.server.sse import TextServerSentEvent
from emmett_core.http.wrappers.response import ServerSentEvent as EmmettEvent

TOKENS = ("Total:", "\n", "12 EUR\nThank you")


class Chat:
    async def on_get(self, request, response):
        async def events():
            for token in TOKENS:
                yield falcon.asgi.SSEvent(text=token)

        response.sse = events()


by_falcon, by_microdot = falcon.asgi.App(), microdot.asgi.Microdot()
by_falcon.add_route("/chat", Chat())


@by_microdot.get("/chat")
@microdot.sse.with_sse
async def chat(request, sse):
    for token in TOKENS:
        await sse.send(token)


def written_by(encode):
    """An app that sends what a framework's function writes for each token."""

    async def app(scope, receive, send):
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"".join(encode(token) for token in TOKENS)})

    return app


APPS = {
    "falcon": by_falcon,
    "microdot": by_microdot,
    "emmett-core": written_by(lambda token: EmmettEvent(token).encode(str)),
    "blacksheep": written_by(lambda token: blacksheep.scribe.write_sse(TextServerSentEvent(token))),
    "sse-starlette": written_by(lambda token: sse_starlette.ServerSentEvent(token).encode()),
}


async def text(app):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example") as client:
        async with httpx_sse.aconnect_sse(client, "GET", "/chat") as source:
            return "".join([event.data async for event in source.aiter_sse()])


async def main():
    return {name: await text(app) for name, app in APPS.items()}


seen = asyncio.run(main())
for name, received in seen.items():
    print(f"{name} {version(name)}: of {''.join(TOKENS)!r} arrives {received!r}")
lost, escaped = "Total:12 EUR", r"Total:\n12 EUR\nThank you"
expected = {"falcon": lost, "microdot": lost, "emmett-core": lost, "blacksheep": escaped, "sse-starlette": "".join(TOKENS)}
raise SystemExit(0 if seen == expected else "changed: a text of two lines arrives")
PYTHON
