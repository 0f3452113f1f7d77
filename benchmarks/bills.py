"""What the example gateway bills for streamed chat completions is exactly what its backends have generated.

Two backends, several gateway processes on one store, and clients that stream from all of them. One client in five
leaves in the middle, and one call in ten is refused by the first backend. At the end the accounts must have been
charged what the backends say that they have read and written, to the millionth of a dollar::

    python -m benchmarks.bills
    python -m benchmarks.bills --streams 100 --processes 2

Exit status 1 where a sum differs, or where a call failed. Bounded: loopback only, about a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

import httpx2

from benchmarks.peers import redis_server
from examples.gateway.catalogue import PRICES
from examples.gateway.processes import child
from examples.gateway.serve import AdminClient

__all__ = ["Bills", "run"]

MODEL: Final = "alice-3gram"
CALLS_PER_ACCOUNT: Final = 50
"""The paid tier has 100 requests a minute."""

AT_ONCE: Final = 32
SECONDS: Final = 60.0
ADMIN: Final = "admin-of-this-run"


class Bills(NamedTuple):
    """What a run has shown. Amounts are millionths of a dollar.

    :param left: the clients that have left in the middle.
    :param second: the calls that the second backend has executed.
    :param failed: the calls that had no response of status 200.
    :param used: the price of what the backends have read and written.
    :param billed: what the accounts have been charged.
    """

    streams: int
    left: int
    second: int
    failed: int
    tokens: int
    billed_tokens: int
    used: int
    billed: int


async def run(urls: Sequence[str], backends: Sequence[str], *, streams: int) -> Bills:
    """Stream from all gateways, and compare what the backends have used with what the accounts were charged."""
    with httpx2.Client(base_url=urls[0], headers={"authorization": f"Bearer {ADMIN}"}, timeout=SECONDS) as plain:
        admin = AdminClient(plain)
        accounts = [admin.create_key(credit=10**9) for _ in range(-(-streams // CALLS_PER_ACCOUNT))]
        turns = asyncio.Semaphore(AT_ONCE)
        limits = httpx2.Limits(max_keepalive_connections=0)
        async with httpx2.AsyncClient(timeout=SECONDS, limits=limits) as client:
            statuses = await asyncio.gather(
                *(
                    _stream(client, urls[number % len(urls)], accounts[number // CALLS_PER_ACCOUNT][0], number, turns)
                    for number in range(streams)
                )
            )
        calls = sum(status == 200 for status in statuses)
        deadline = time.monotonic() + SECONDS
        while True:  # calls whose clients have left are still being generated
            seen = [admin.account(account) for _, account in accounts]
            if sum(each["calls"] for each in seen) >= calls or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.1)
        used = [plain.get(f"{backend}/usage").json().get(MODEL, {"read": 0, "written": 0}) for backend in backends]
        second = sum(plain.get(f"{backends[-1]}/work").json().values())
    price = PRICES[MODEL]
    read, written = (sum(each[name] for each in used) for name in ("read", "written"))
    return Bills(
        streams,
        len(range(0, streams, 5)),
        second,
        streams - calls,
        read + written,
        sum(each["tokens"] for each in seen),
        read * price[0] + written * price[1],
        sum(each["spent"] for each in seen),
    )


async def _stream(client: httpx2.AsyncClient, url: str, key: str, number: int, turns: asyncio.Semaphore) -> int:
    headers = {"authorization": f"Bearer {key}"}
    if number % 10 == 3:
        headers["x-backend-fault"] = f"503; once=call-{number}"
    body: dict[str, Any] = {
        "model": MODEL,
        "stream": True,
        "max_tokens": 30,
        "min_tokens": 20,
        "messages": [{"role": "user", "content": "the sea " * (1 + number % 20)}],
    }
    patience = random.randrange(1, 15) if number % 5 == 0 else None
    async with turns, client.stream("POST", f"{url}/v1/chat/completions", json=body, headers=headers) as response:
        seen = 0
        async for line in response.aiter_lines():
            seen += line.startswith("data:")
            if seen == patience:
                break
        return response.status_code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=4)
    options = parser.parse_args()
    wrong = 0
    names = ("storage", *(name.replace("_", " ") for name in Bills._fields), "difference")
    sys.stdout.write(f"| {' | '.join(names)} |\n|{'---|' * len(names)}\n")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        redis_url = stack.enter_context(redis_server())
        for name, storage in (("sqlite and memory", f"sqlite:///{folder}/gateway.db"), ("redis", f"{redis_url}/0")):
            with ExitStack() as running:
                backends = [running.enter_context(child("examples.gateway.backend")) for _ in range(2)]
                upstreams = [argument for url in backends for argument in ("--upstream", url)]
                arguments = ("--port", "0", "--storage", storage, "--admin-token", ADMIN, "--faults", *upstreams)
                urls = [running.enter_context(child("examples.gateway", *arguments)) for _ in range(options.processes)]
                bills = asyncio.run(run(urls, backends, streams=options.streams))
            difference = bills.billed - bills.used
            wrong += bool(difference or bills.failed or bills.tokens != bills.billed_tokens)
            sys.stdout.write(f"| {' | '.join(map(str, (name, *bills, difference)))} |\n")
            sys.stdout.flush()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
