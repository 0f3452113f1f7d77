"""One of several processes whose clients share a credential, and the state of its limit through a store.

Each line of standard input is a run in JSON: the URL of the server and of the store, the number of calls, and the mode.
An interpreter starts slowly.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import anyio
import httpx

import flexmw.httpx
from flexmw.pace import Pace, registry
from tests.waiting import LONGEST_WAIT

# Its processes share a busy machine, which is not a lost store: Pace would go on alone after a tenth of a second.
registry.TIMEOUT = LONGEST_WAIT  # type: ignore[misc]

LIMITS = httpx.Limits(max_keepalive_connections=0)  # uvicorn closes idle ones at any moment
KEY = {"authorization": "Bearer sk-shared-canary"}


def in_threads(url: str, pace: Pace, calls: int) -> list[int]:
    transport = flexmw.httpx.Transport(pace, transport=httpx.HTTPTransport(limits=LIMITS))
    with (
        httpx.Client(transport=transport, headers=KEY, timeout=LONGEST_WAIT) as client,
        ThreadPoolExecutor(calls) as pool,
    ):
        return list(pool.map(lambda _: client.get(url).status_code, range(calls)))


def in_tasks(url: str, pace: Pace, calls: int, backend: str) -> list[int]:
    statuses: list[int] = []

    async def main() -> None:
        transport = flexmw.httpx.AsyncTransport(pace, transport=httpx.AsyncHTTPTransport(limits=LIMITS))
        async with httpx.AsyncClient(transport=transport, headers=KEY, timeout=LONGEST_WAIT) as client:

            async def one() -> None:
                statuses.append((await client.get(url)).status_code)

            async with anyio.create_task_group() as tasks:
                for _ in range(calls):
                    tasks.start_soon(one)

    anyio.run(main, backend=backend)
    return statuses


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    for line in iter(sys.stdin.readline, ""):
        url, storage, calls, mode = json.loads(line)
        pace = Pace(storage=storage)
        _say("ready")
        sys.stdin.readline()
        run = in_threads(url, pace, calls) if mode == "threads" else in_tasks(url, pace, calls, mode)
        _say(json.dumps(run))
