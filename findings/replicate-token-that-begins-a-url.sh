#!/usr/bin/env bash
# A token that begins with "https:" ends a stream of replicate with TypeError.
# Expected: `for event in replicate.stream(...): print(str(event), end="")`, as its documentation has it, prints the text
# of a language model; at least with `use_file_output=False`.
# Seen: the text of each event that begins with "https:" or "data:" is made a FileOutput, a file to download; str() of that
# event is TypeError, and the rest of the text, which is paid for, is lost. `use_file_output=False` has no effect.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'replicate==1.0.7' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import replicate

TOKENS = ("See ", "https://", "shop.example", " for prices.")


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        prediction = {"id": "p", "model": "meta/llama", "version": "v", "status": "starting", "input": {}}
        prediction |= {"logs": "", "source": "api", "created_at": "2026-11-01T00:00:00Z", "urls": {"stream": f"{url}/p"}}
        body = json.dumps(prediction).encode()
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        events = [f"event: output\nid: {number}\ndata: {token}\n\n" for number, token in enumerate(TOKENS)]
        self.wfile.write("".join([*events, "event: done\nid: 9\ndata: {}\n\n"]).encode())

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
client = replicate.Client(api_token="token", base_url=url)


def text(**options):
    printed = ""
    try:
        for event in client.stream("meta/llama", input={"prompt": "hello"}, **options):
            printed += str(event)
    except TypeError as error:
        return printed, str(error)
    return printed, None


seen = [text(), text(use_file_output=False)]
print(f"replicate {version('replicate')}: {seen}")
as_stated = seen[0] == seen[1] and seen[0][0] == "See " and "FileOutput" in seen[0][1]
raise SystemExit(0 if as_stated else "changed: a token is a text")
PYTHON
