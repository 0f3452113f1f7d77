"""One of several processes that ask for the slots of one caller at once, and hold what they get until they are told."""

from __future__ import annotations

import asyncio
import json
import sys

from starlette.types import Receive, Scope, Send

from flexmw.ratelimit import RateLimit
from tests.ratelimit.calls import answering, call
from tests.waiting import LONGEST_WAIT


async def main(url: str, most: int, lease: float, requests: int) -> None:
    over, outcomes = asyncio.Event(), asyncio.Queue[int]()

    async def held(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/held":
            outcomes.put_nowait(0)
            await over.wait()
        await answering()(scope, receive, send)

    limited = RateLimit(storage=url, concurrency=most, lease=lease, store_timeout=LONGEST_WAIT).asgi(held)

    async def one() -> None:
        answer = await call(limited, "the caller", path="/held")
        outcomes.put_nowait(answer.status)

    await call(limited, "warm")
    _say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    tasks = [asyncio.create_task(one()) for _ in range(requests)]
    _say(json.dumps([await outcomes.get() for _ in range(requests)]))
    await asyncio.to_thread(sys.stdin.readline)
    over.set()
    await asyncio.gather(*tasks)
    await limited.close()  # type: ignore[attr-defined]
    _say("over")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    url, most, lease, requests = sys.argv[1:]
    asyncio.run(main(url, int(most), float(lease), int(requests)))
