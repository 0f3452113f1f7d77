"""One of several processes that send more than the limit to one store, as fast as they can.

Each line of standard input is a run, the arguments of :func:`main` in JSON: an interpreter starts slowly.
"""

from __future__ import annotations

import asyncio
import json
import sys

from flexmw.ratelimit import RateLimit
from tests.ratelimit.calls import answering, call
from tests.waiting import LONGEST_WAIT


async def main(url: str, rates: list[str], strategy: str, requests: int, at_once: int) -> None:
    app = RateLimit(rates=rates, storage=url, strategy=strategy, store_timeout=LONGEST_WAIT).asgi(answering())
    await call(app, "warm")
    _say("ready")
    sys.stdin.readline()
    turns = asyncio.Semaphore(at_once)

    async def one() -> tuple[int, int]:
        async with turns:
            answer = await call(app, "the caller")
            return answer.status, answer.quota[1]

    _say(json.dumps(await asyncio.gather(*(one() for _ in range(requests)))))
    await app.close()  # type: ignore[attr-defined]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    for line in iter(sys.stdin.readline, ""):
        asyncio.run(main(*json.loads(line)))
