"""A second service in the process of the gateway, for the panels that the gateway alone leaves empty.

Its app has a limit in shadow mode and slots for concurrent requests, and reports hot callers. One client paces itself
by the limit's headers, with its state in the gateway's redis; another one does not.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp

import flexmw

__all__ = ["start"]

_PAUSE_SECONDS = 0.3
_LONG_SECONDS = 5.0


def start(storage: str) -> None:
    """Run the service and its clients in a thread until the process ends.

    :param storage: the gateway's storage; `Pace` uses it if it is a redis.
    """
    threading.Thread(target=lambda: asyncio.run(_run(storage)), name="neighbour", daemon=True).start()


async def _run(storage: str) -> None:
    app = flexmw.wrap_app(
        Starlette(routes=[Route("/work/{seconds:float}", _work)]),
        flexmw.Tagging(hot_callers=10),
        flexmw.Envelope(),
        flexmw.RateLimit("20/second", shadow=True),
        flexmw.RateLimit("10000/minute", concurrency=4),
    )
    pace = flexmw.Pace(storage=storage) if storage.startswith("redis") else flexmw.Pace()
    paced = flexmw.wrap_client(_client(app), flexmw.Tagging(), flexmw.Retry(), pace)
    async with paced, _client(app) as eager, asyncio.TaskGroup() as tasks:
        tasks.create_task(_repeat(paced, f"/work/{_LONG_SECONDS}", "long", 1))
        tasks.create_task(_repeat(paced, "/work/0.05", "paced", 12))
        tasks.create_task(_repeat(eager, "/work/0.01", "eager", 12))
        tasks.create_task(_repeat(eager, "/work/0.01", "calm", 1))


async def _work(request: Request) -> JSONResponse:
    await asyncio.sleep(request.path_params["seconds"])
    return JSONResponse({})


def _client(app: ASGIApp) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://neighbour.test")


async def _repeat(client: httpx2.AsyncClient, path: str, key: str, number: int) -> None:
    """Send so many requests at once, again and again."""
    headers = {"authorization": f"Bearer {key}"}
    while True:
        with suppress(httpx2.TransportError):
            await asyncio.gather(*(client.get(path, headers=headers) for _ in range(number)))
        await asyncio.sleep(_PAUSE_SECONDS)
