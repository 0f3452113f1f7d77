#!/usr/bin/env bash
# purgatory takes a call that its caller has cancelled for a failure of the upstream.
# Expected: cancellation (a client that has gone away, a task group that ends) says nothing about the upstream.
# Seen: three cancelled calls open the circuit, and the next caller is refused for thirty seconds by an upstream that
# has never failed. circuitbreaker and aiobreaker do not count them.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'purgatory==3.0.1' 'circuitbreaker==2.1.3' 'aiobreaker==1.2.0'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

import aiobreaker
import circuitbreaker
from purgatory import AsyncCircuitBreakerFactory

started = asyncio.Event()


async def upstream(seconds):
    started.set()
    await asyncio.sleep(seconds)
    return "response"


async def after_three_cancelled(call):
    for _ in range(3):
        started.clear()
        task = asyncio.create_task(call(3600))
        await started.wait()
        task.cancel()
        await asyncio.wait([task])
    try:
        return await call(0)
    except Exception as error:
        return type(error).__name__


async def main():
    breaker = aiobreaker.CircuitBreaker(fail_max=3)
    calls = {
        "purgatory": AsyncCircuitBreakerFactory(default_threshold=3, default_ttl=30)("shop")(upstream),
        "circuitbreaker": circuitbreaker.circuit(failure_threshold=3)(upstream),
        "aiobreaker": lambda seconds: breaker.call_async(upstream, seconds),
    }
    return {name: await after_three_cancelled(call) for name, call in calls.items()}


seen = asyncio.run(main())
print({f"{name} {version(name)}": result for name, result in seen.items()})
expected = {"purgatory": "OpenedState", "circuitbreaker": "response", "aiobreaker": "response"}
raise SystemExit(0 if seen == expected else "changed: a cancelled call is no failure")
PYTHON
