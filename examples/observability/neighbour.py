"""A second service in the process of the gateway, for the panels that the gateway alone leaves empty.

Its app has a limit in shadow mode, slots for concurrent requests and tokens that settle, and reports hot callers. One
client paces itself by the limit's headers, with its state in the gateway's redis; another one does not. A third one
reads streams whose connection is cut: one of them goes on, and the app has forgotten the other one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

import flexmw

__all__ = ["start"]

_PAUSE_SECONDS = 0.3
_LONG_SECONDS = 5.0
_URL = "http://neighbour.test"


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
        flexmw.RateLimit(tokens="1000000/minute", token_cost=100, usage="openai"),
    )
    pace = flexmw.Pace(storage=storage) if storage.startswith("redis") else flexmw.Pace()
    paced = flexmw.wrap_client(_client(app), flexmw.Tagging(), flexmw.Retry(), pace)
    retry = flexmw.Retry(auto_key=True, key_origins=(_URL,))
    cut = flexmw.wrap_client(httpx2.AsyncClient(transport=_Cuts(), base_url=_URL), flexmw.Tagging(), retry)
    async with paced, cut, _client(app) as eager, asyncio.TaskGroup() as tasks:
        tasks.create_task(_repeat(paced, f"/work/{_LONG_SECONDS}", "long", 1))
        tasks.create_task(_repeat(paced, "/work/0.05", "paced", 12))
        tasks.create_task(_repeat(eager, "/work/0.01", "eager", 12))
        tasks.create_task(_repeat(eager, "/work/0.01", "calm", 1))
        for path in ("/kept", "/forgotten"):
            tasks.create_task(_repeat(cut, path, "stream", 1, method="POST", pause=_LONG_SECONDS))


async def _work(request: Request) -> JSONResponse:
    await asyncio.sleep(request.path_params["seconds"])
    return JSONResponse({"usage": {"total_tokens": 80}})


def _client(app: ASGIApp) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=_URL)


class _Cuts(httpx2.AsyncBaseTransport):
    """Cuts the response to each request, and continues it when it is asked to, unless the path is `/forgotten`."""

    def __init__(self) -> None:
        app = Starlette(routes=[Route("/{name}", _stream, methods=["POST"])])
        self._app = httpx2.ASGITransport(flexmw.wrap_app(app, flexmw.Envelope(), flexmw.Idempotency()))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        is_continuation = "idempotent-stream" in request.headers
        if is_continuation and request.url.path == "/forgotten":
            return httpx2.Response(410)
        response = await self._app.handle_async_request(request)
        if is_continuation:
            return response
        body = await response.aread()
        return httpx2.Response(response.status_code, headers=response.headers, content=_half(body))


async def _stream(request: Request) -> StreamingResponse:
    async def events() -> AsyncIterator[bytes]:
        for number in range(4):
            yield b"data: %d\n\n" % number

    return StreamingResponse(events(), media_type="text/event-stream")


async def _half(body: bytes) -> AsyncIterator[bytes]:
    yield body[: len(body) // 2]
    raise httpx2.ReadError("the connection was cut")


async def _repeat(
    client: httpx2.AsyncClient, path: str, key: str, number: int, method: str = "GET", pause: float = _PAUSE_SECONDS
) -> None:
    """Send so many requests at once, again and again."""
    headers = {"authorization": f"Bearer {key}"}
    while True:
        with suppress(httpx2.TransportError):
            await asyncio.gather(*(client.request(method, path, headers=headers) for _ in range(number)))
        await asyncio.sleep(pause)
