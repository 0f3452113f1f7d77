#!/usr/bin/env bash
# limits' asynchronous memory storage looks at every key of every caller after each hit.
# Expected: a hit costs the same whether the storage holds one key or twenty thousand.
# Seen: each hit starts a task that walks all keys in search of expired ones: with 20000 callers a request waits for
# about ten milliseconds before the event loop goes on.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'limits==5.8.0'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import time
from importlib.metadata import version

from limits import parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter

RATE = parse("1000000/hour")


async def milliseconds(callers):
    """The median time of a hit with a turn of the event loop, while the storage holds so many keys."""
    limiter = FixedWindowRateLimiter(MemoryStorage())
    for caller in range(callers):
        await limiter.hit(RATE, str(caller))
    taken = []
    for _ in range(41):
        await asyncio.sleep(0)
        began = time.perf_counter()
        await limiter.hit(RATE, "0")
        await asyncio.sleep(0)
        taken.append((time.perf_counter() - began) * 1000)
    return sorted(taken)[20]


one, many = asyncio.run(milliseconds(1)), asyncio.run(milliseconds(20000))
print(f"limits {version('limits')}: {one:.2f} ms a hit with 1 key, {many:.2f} ms with 20000 keys")
raise SystemExit(0 if many > 20 * one else "changed: a hit does not depend on the other keys")
PYTHON
