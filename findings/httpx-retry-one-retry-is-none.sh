#!/usr/bin/env bash
# httpx-retry's `with_max_retries(1)` retries nothing in a synchronous client, and once in an asynchronous one.
# Expected: the first call and one retry, as its documentation counts them: two requests in both.
# Seen: the synchronous transport counts its attempts from one and the asynchronous one from zero, against the same
# limit. A policy without options allows one retry too. A program that moves from one client to the other gains or loses
# a retry.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'httpx-retry==2025.4.23' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

import httpx
from httpx_retry import AsyncRetryTransport, RetryPolicy, RetryTransport


class Upstream(httpx.MockTransport):
    """Refuses every request, and counts them."""

    def __init__(self):
        self.requests = 0
        super().__init__(self.refuse)

    def refuse(self, request):
        self.requests += 1
        return httpx.Response(503)


def synchronous(policy):
    upstream = Upstream()
    with httpx.Client(transport=RetryTransport(upstream, policy)) as client:
        client.get("http://shop.example")
    return upstream.requests


async def asynchronous(policy):
    upstream = Upstream()
    async with httpx.AsyncClient(transport=AsyncRetryTransport(upstream, policy)) as client:
        await client.get("http://shop.example")
    return upstream.requests


def requests(policy):
    return synchronous(policy), asyncio.run(asynchronous(policy))


one, by_default = requests(RetryPolicy().with_max_retries(1)), requests(RetryPolicy())
print(f"httpx-retry {version('httpx-retry')}: requests (sync, async): one retry: {one}; by default: {by_default}")
raise SystemExit(0 if one == by_default == (1, 2) else "changed: one retry is two requests")
PYTHON
