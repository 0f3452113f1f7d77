#!/usr/bin/env bash
# aiolimiter serves small amounts first, so that a large one waits as long as small ones arrive.
# Expected: who waits longest is served first, or soon: a limit on tokens lets a request of 8 of 10 tokens pass within
# two seconds at ten tokens a second.
# Seen: the queue is ordered by amount. While requests of one token arrive at that rate, as many as the limit allows,
# the large one waits until they end: a long prompt is never sent.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'aiolimiter==1.3.0'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import time
from importlib.metadata import version

from aiolimiter import AsyncLimiter

SMALL = 60


async def main():
    limiter = AsyncLimiter(10, 1)
    await limiter.acquire(10)
    begin, waited, before = time.monotonic(), {}, []

    async def acquire(name, amount):
        await limiter.acquire(amount)
        waited[name] = time.monotonic() - begin
        if name != "large":
            before.append("large" not in waited)

    large = asyncio.create_task(acquire("large", 8))
    small = []
    for number in range(SMALL):
        small.append(asyncio.create_task(acquire(number, 1)))
        await asyncio.sleep(0.09)
    await asyncio.gather(large, *small)
    return waited["large"], sum(before)


seconds, before = asyncio.run(main())
print(f"aiolimiter {version('aiolimiter')}: the first of all to wait is served after {seconds:.1f} s,")
print(f"after {before} of {SMALL} requests that came later")
raise SystemExit(0 if seconds > 4 and before > SMALL / 2 else "changed: who waits longest is served first")
PYTHON
