"""Life without an SDK, in a process of its own: nothing is opened, nothing is allocated, nothing is imported."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

from tests.waiting import LONGEST_WAIT


def run(code: str) -> Any:
    """The last line that a fresh interpreter prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=LONGEST_WAIT,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


PREAMBLE = """
import asyncio, json, sys
import opentelemetry.trace as trace, opentelemetry.context as context
from flexmw.tagging import Tagging

opened = []
for owner, name in ((trace.NoOpTracer, "start_span"), (context, "attach"), (context, "set_value")):
    def spy(*args, _name=name, _real=getattr(owner, name), **options):
        opened.append(_name)
        return _real(*args, **options)
    setattr(owner, name, spy)

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})

async def receive():
    return {"type": "http.request", "body": b"", "more_body": False}

async def send(message):
    pass

scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
"""


def test_no_span_no_context_and_no_memory_without_an_sdk() -> None:
    seen = run(
        PREAMBLE
        + """
import tracemalloc
from flexmw.testing import FakeClock
tagged = Tagging(server_span=True, clock=FakeClock()).asgi(app)

async def main():
    for _ in range(65):
        await tagged(dict(scope), receive, send)
    requests = [dict(scope) for _ in range(60)]
    tracemalloc.start()
    for each in requests:
        await tagged(each, receive, send)
    spent = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/flexmw/*")])
    return [str(line) for line in spent.statistics("lineno") if line.size > 512], sum("flexmw" in r for r in requests)

left, exchanges = asyncio.run(main())
print(json.dumps([opened, left, exchanges, "opentelemetry.sdk" in sys.modules]))
"""
    )
    assert seen == [[], [], 0, False]


def test_a_span_that_appears_later_is_found_within_a_second() -> None:
    before, after = run(
        PREAMBLE
        + """
from flexmw.envelope import Envelope
from flexmw.testing import FakeClock
from opentelemetry.sdk.trace import TracerProvider

async def failing(scope, receive, send):
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})

clock = FakeClock()
tagged = Tagging(clock=clock).asgi(Envelope().asgi(failing))
tracer = TracerProvider().get_tracer("app")

async def enriched(requests):
    found = []
    for _ in range(requests):
        with tracer.start_as_current_span("GET") as span:
            await tagged(dict(scope), receive, send)
        found.append("flexmw.error.code" in span.attributes)
    return found

async def main():
    await tagged(dict(scope), receive, send)
    before = await enriched(3)
    clock.advance(1.0)
    return before, await enriched(3)

print(json.dumps(asyncio.run(main())))
"""
    )
    assert before == [False] * 3
    assert after == [True] * 3


def test_importing_tagging_imports_no_sdk_and_no_client_library() -> None:
    loaded = run(
        """
import json, sys
import flexmw.tagging
print(json.dumps([name for name in ("opentelemetry.sdk", "httpx", "httpx2", "fastapi") if name in sys.modules]))
"""
    )
    assert loaded == []
