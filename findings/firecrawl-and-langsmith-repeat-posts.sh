#!/usr/bin/env bash
# The SDKs of Firecrawl and LangSmith send a POST again whose response was lost, without a key that tells the attempts
# apart.
# Expected: a job that is billed and a dataset that is made by its name are not sent again by default when nothing is
# known of the first attempt, or all attempts carry one key.
# Seen: one start_crawl() is three crawls, and one create_dataset() is three datasets (async) or four (sync). Where the
# server makes names unique, the caller whose dataset was made gets LangSmithConflictError.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'firecrawl-py==4.55.0' 'langsmith==0.15.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

from firecrawl import AsyncFirecrawl, Firecrawl
from langsmith import AsyncClient, Client

posts = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        posts.append([name.lower() for name in self.headers if "idempotency" in name.lower()])
        if self.path.startswith("/unique") and len(posts) > 1:
            self.send_response(409)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")  # else the connection is closed after the work

    def do_GET(self):  # the version of the server, for which langsmith asks
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url, page = f"http://127.0.0.1:{server.server_port}", "http://localhost/"


async def crawl():
    await AsyncFirecrawl(api_key="fc-k", api_url=url).start_crawl(page)


async def dataset(at):
    async with AsyncClient(api_url=at, api_key="k") as client:
        await client.create_dataset("orders")


calls = {
    "start_crawl": lambda: Firecrawl(api_key="fc-k", api_url=url).start_crawl(page),
    "async start_crawl": lambda: asyncio.run(crawl()),
    "create_dataset": lambda: Client(api_url=url, api_key="k", auto_batch_tracing=False).create_dataset("orders"),
    "async create_dataset": lambda: asyncio.run(dataset(url)),
    "async create_dataset, unique": lambda: asyncio.run(dataset(url + "/unique")),
}
seen, keys = {}, []
for name, call in calls.items():
    posts.clear()
    try:
        call()
    except Exception as error:
        seen[name] = (len(posts), type(error).__name__)
    keys += [key for each in posts for key in each]
print(f"firecrawl-py {version('firecrawl-py')}, langsmith {version('langsmith')} (POSTs, error): {seen}; keys: {keys}")
counts = {name: number for name, (number, _) in seen.items()}
expected = dict(zip(calls, [3, 3, 4, 3, 2], strict=True))
conflict = seen.get("async create_dataset, unique", (0, ""))[1] == "LangSmithConflictError"
raise SystemExit(0 if counts == expected and conflict and not keys else "changed: other POSTs")
PYTHON
