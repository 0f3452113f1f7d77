#!/usr/bin/env bash
# A POST that a gateway gave up on is sent four times by the clients of Microsoft Graph and of Azure.
# Expected: a 504 says that nobody knows whether the order was executed (RFC 9110, section 9.2.2): a client does not
# repeat a POST by itself after it, unless it has a key.
# Seen: kiota-http, the transport of msgraph-sdk, and azure-core, that of Azure's packages, send the POST three times more,
# without a key; azure-core after a 500 too, though its retries name no POST among their methods.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'microsoft-kiota-http==1.16.0' 'azure-core==1.41.0' 'httpx==0.28.1' 'requests==2.34.2'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import httpx
from azure.core import PipelineClient
from azure.core.pipeline.policies import RetryPolicy
from azure.core.rest import HttpRequest
from kiota_http.kiota_client_factory import KiotaClientFactory

received = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        received.append(self.headers.get("Idempotency-Key"))
        self.send_response(int(self.path.strip("/")))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"


async def by_kiota(status):
    received.clear()
    async with KiotaClientFactory.create_with_default_middleware(client=httpx.AsyncClient()) as client:
        response = await client.post(f"{url}/{status}", json={"item": "table"})
    return response.status_code, received.copy()


def by_azure(status):
    received.clear()
    with PipelineClient(url, policies=[RetryPolicy(retry_backoff_factor=0.1)]) as client:
        response = client.send_request(HttpRequest("POST", f"{url}/{status}", json={"item": "table"}))
    return response.status_code, received.copy()


seen = {f"kiota-http, {status}": asyncio.run(by_kiota(status)) for status in (500, 504)}
seen |= {f"azure-core, {status}": by_azure(status) for status in (500, 504)}
print(f"microsoft-kiota-http {version('microsoft-kiota-http')}, azure-core {version('azure-core')}:")
print({name: f"{status}, received {len(keys)} times, keys: {set(keys)}" for name, (status, keys) in seen.items()})
four = [None] * 4
expected = {"kiota-http, 500": (500, [None]), "kiota-http, 504": (504, four)}
expected |= {"azure-core, 500": (500, four), "azure-core, 504": (504, four)}
raise SystemExit(0 if seen == expected else "changed: a POST is sent once")
PYTHON
