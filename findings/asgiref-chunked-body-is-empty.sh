#!/usr/bin/env bash
# A chunked body that goes through a bridge from ASGI to WSGI is empty for Flask.
# Expected: an upload whose length is not known beforehand (httpx sends a generator chunked) reaches the app.
# Seen: the bridge of asgiref, of a2wsgi and of Starlette gives the app the body, and neither CONTENT_LENGTH nor
# `wsgi.input_terminated`, without one of which Flask must take a body for empty. The app works on nothing: a 200.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q \
  'asgiref==3.13.0' 'a2wsgi==1.10.10' 'starlette==1.10.0' 'flask==3.1.3' 'uvicorn==0.54.0' 'h11==0.16.0' 'httpx==0.28.1'
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import socket
import threading
from importlib.metadata import version

import a2wsgi
import asgiref.wsgi
import flask
import httpx
import starlette.middleware.wsgi
import uvicorn

app = flask.Flask("shop")
BRIDGES = {
    "asgiref": asgiref.wsgi.WsgiToAsgi(app),
    "a2wsgi": a2wsgi.WSGIMiddleware(app),
    "starlette": starlette.middleware.wsgi.WSGIMiddleware(app),
}


@app.post("/")
def upload():
    return {"bytes": len(flask.request.get_data())}


def parts():
    yield b"one"
    yield b"two"


def bytes_seen(bridge):
    """How many bytes of six the app sees: with Content-Length, and chunked."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(bridge, http="h11", lifespan="off", log_level="critical"))
    threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    return [httpx.post(url, content=content, timeout=20).json()["bytes"] for content in (b"onetwo", parts())]


seen = {name: bytes_seen(bridge) for name, bridge in BRIDGES.items()}
print({f"{name} {version(name)}": counts for name, counts in seen.items()}, f"flask {version('flask')}")
changed = "changed: a chunked body reaches the app"
raise SystemExit(0 if all(counts == [6, 0] for counts in seen.values()) else changed)
PYTHON
