#!/usr/bin/env bash
# The waits of hyx's retries grow with the number of calls that fail at the same time.
# Expected: `backoff=expo(min_delay_secs=1)` waits 1 second before the first retry of each call.
# Seen: the calls of a decorated function share one counter: of eight calls that fail together the first one waits one
# second, the next one two, the eighth 128. A call that begins meanwhile sets the counter of all others back to the
# beginning. `linear`, `fibo` and a list of delays are shared in the same way.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'hyx==0.0.2'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

from hyx.retry import retry
from hyx.retry.backoffs import expo


async def first_waits(calls):
    """The seconds that each of so many calls waits before its first retry; nothing is waited here."""
    waits, together, failed = [], asyncio.Barrier(calls), set()

    def note(milliseconds):
        waits.append(milliseconds / 1000)
        return 0

    @retry(on=ConnectionError, attempts=1, backoff=expo(min_delay_secs=1, jitter=note))
    async def order(number):
        if number not in failed:
            failed.add(number)
            await together.wait()
            raise ConnectionError
        return number

    await asyncio.gather(*(order(number) for number in range(calls)))
    return waits


alone, eight = asyncio.run(first_waits(1)), asyncio.run(first_waits(8))
print(f"hyx {version('hyx')}: the wait of one call: {alone}; of eight at the same time: {eight}")
as_stated = alone == [1] and eight == [1, 2, 4, 8, 16, 32, 64, 128]
raise SystemExit(0 if as_stated else "changed: each call has waits of its own")
PYTHON
