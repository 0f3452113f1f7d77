#!/usr/bin/env bash
# A circuit breaker on a function that yields a stream never opens.
# Expected: after two streams that failed, a breaker with fail_max=2 refuses the third call.
# Seen: pybreaker and aiobreaker call the function, get its generator, and count a success before the first token:
# each call reaches an upstream that fails all of them. pybreaker does the same with each `async def`. circuitbreaker
# reads the stream and opens.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'pybreaker==1.4.1' 'aiobreaker==1.2.0' 'circuitbreaker==2.1.3'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

import aiobreaker
import circuitbreaker
import pybreaker

BREAKERS = {
    "pybreaker": lambda: pybreaker.CircuitBreaker(fail_max=2),
    "aiobreaker": lambda: aiobreaker.CircuitBreaker(fail_max=2),
    "circuitbreaker": lambda: circuitbreaker.CircuitBreaker(failure_threshold=2),
}


async def calls(breaker, streams):
    """How many of five calls reach an upstream that fails each of them."""
    reached = 0

    async def complete():
        nonlocal reached
        reached += 1
        raise ConnectionError

    async def stream():
        nonlocal reached
        reached += 1
        yield "first token"
        raise ConnectionError

    guarded = breaker(stream if streams else complete)
    for _ in range(5):
        try:
            if streams:
                async for _token in guarded():
                    pass
            else:
                await guarded()
        except Exception:
            pass
    return reached


async def main():
    return {name: [await calls(make(), streams) for streams in (False, True)] for name, make in BREAKERS.items()}


seen = asyncio.run(main())
print("of five calls, so many reach the upstream (coroutine, stream):")
print({f"{name} {version(name)}": reached for name, reached in seen.items()})
expected = {"pybreaker": [5, 5], "aiobreaker": [2, 5], "circuitbreaker": [2, 2]}
raise SystemExit(0 if seen == expected else "changed: a breaker counts the end of a stream")
PYTHON
