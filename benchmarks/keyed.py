"""Requests with an idempotency key: the app that receives them, and the kinds of traffic that are measured.

A batch of traffic has three parts: requests that are made before the measurement, requests that run during all of it,
and the requests that are measured.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

__all__ = ["TRAFFIC", "Batch", "Call", "Host", "Traffic", "close", "post", "run_batch"]

_numbers = itertools.count(1)
BODY: Final = b'{"model":"seed","messages":[{"role":"user","content":"hello"}],"number":%d}'


class Host:
    """A Starlette app with one route that reads the body and responds with JSON. It counts its executions."""

    def __init__(self) -> None:
        self.executions = 0
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()
        self.app: Any = Starlette(
            routes=[Route("/", self._respond, methods=["POST"]), Route("/held", self._hold, methods=["POST"])]
        )

    async def _respond(self, request: Request) -> JSONResponse:
        await request.body()
        self.executions += 1
        return JSONResponse({"id": "chatcmpl-1", "object": "chat.completion", "choices": []})

    async def _hold(self, request: Request) -> JSONResponse:
        self.entered.set()
        await self.go_on.wait()
        return await self._respond(request)


class Call(NamedTuple):
    """One POST.

    :param key: the idempotency key; ``None`` sends none.
    :param count: the retry count of an SDK; ``None`` sends none.
    :param number: the number in the body, by which bodies differ.
    """

    key: str | None = None
    count: int | None = None
    number: int = 0
    path: str = "/"


class Batch(NamedTuple):
    before: Sequence[Call]
    held: Sequence[Call]
    measured: Sequence[Call]


@dataclass(frozen=True)
class Traffic:
    """One kind of traffic.

    :param title: what the measured requests are.
    :param batch: makes the requests of one measurement, given their number.
    :param status: the status that each measured request must get.
    :param executions: how often the app runs for each measured request.
    """

    title: str
    batch: Callable[[int], Batch]
    status: int = 200
    executions: int = 1


def _key() -> str:
    return f"key-{next(_numbers):032d}"


def _first(times: int) -> Batch:
    return Batch((), (), [Call(key=_key()) for _ in range(times)])


def _replay(times: int) -> Batch:
    key = _key()
    return Batch([Call(key=key)], (), [Call(key=key)] * times)


def _duplicate(times: int) -> Batch:
    call = Call(key=_key(), path="/held")
    return Batch((), [call], [call] * times)


def _sdk_first(times: int) -> Batch:
    return Batch((), (), [Call(count=0, number=next(_numbers)) for _ in range(times)])


def _sdk_retry(times: int) -> Batch:
    numbers = [next(_numbers) for _ in range(times)]
    before = [Call(count=0, number=number) for number in numbers]
    return Batch(before, (), [Call(count=1, number=number) for number in numbers])


TRAFFIC: Final = {
    "unkeyed": Traffic("without a key", lambda times: Batch((), (), [Call()] * times)),
    "first": Traffic("keyed, first execution", _first),
    "replay": Traffic("keyed, replay", _replay, executions=0),
    "duplicate": Traffic("keyed, refused duplicate", _duplicate, status=409, executions=0),
    "sdk first": Traffic("SDK without a key, first attempt", _sdk_first),
    "sdk retry": Traffic("SDK without a key, retry", _sdk_retry, executions=0),
}


async def post(app: Any, call: Call, status: int) -> None:
    """Make one request of a client that stays connected.

    :raises AssertionError: where the response has another status.
    """
    headers = [
        (b"host", b"api.example"),
        (b"accept", b"*/*"),
        (b"user-agent", b"benchmark/1.0"),
        (b"authorization", b"Bearer sk-live-0123456789abcdef"),
        (b"content-type", b"application/json"),
    ]
    if call.key is not None:
        headers.append((b"idempotency-key", call.key.encode()))
    if call.count is not None:
        headers.append((b"x-stainless-retry-count", b"%d" % call.count))
    body = BODY % call.number
    headers.append((b"content-length", b"%d" % len(body)))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "https",
        "path": call.path,
        "raw_path": call.path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": ("192.0.2.1", 5000),
        "server": ("api.example", 443),
    }
    bodies = [{"type": "http.request", "body": body, "more_body": False}]
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        if bodies:
            return bodies.pop()
        await asyncio.get_running_loop().create_future()  # the client stays
        raise AssertionError

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope, receive, send)
    assert statuses == [status], f"{call}: {statuses} instead of {status}"


async def _at_once(app: Any, calls: Sequence[Call], status: int, at_once: int) -> None:
    if at_once == 1:
        for call in calls:
            await post(app, call, status)
        return
    waiting = iter(calls)

    async def work() -> None:
        for call in waiting:
            await post(app, call, status)

    await asyncio.gather(*(work() for _ in range(min(at_once, len(calls)))))


async def run_batch(
    host: Host, app: Any, traffic: Traffic, times: int, at_once: int, measured: Callable[[], Any] | None = None
) -> Any:
    """Make a batch of requests, and check what they did.

    :param app: ``host.app`` with whatever is around it.
    :param times: how many requests are measured.
    :param at_once: how many of them run at the same time.
    :param measured: a context manager around the measured requests; what it enters is returned.
    """
    batch = traffic.batch(times)
    await _at_once(app, batch.before, 200, 16)
    held: list[asyncio.Task[None]] = []
    if batch.held:
        host.entered.clear()
        host.go_on.clear()
        held = [asyncio.ensure_future(post(app, call, 200)) for call in batch.held]
        await host.entered.wait()
    executed = host.executions
    result = None
    if measured is None:
        await _at_once(app, batch.measured, traffic.status, at_once)
    else:
        with measured() as result:
            await _at_once(app, batch.measured, traffic.status, at_once)
    assert host.executions - executed == traffic.executions * times, "a request was executed more or less than once"
    host.go_on.set()
    await asyncio.gather(*held)
    return result


async def close(app: Any) -> None:
    """Start and end the lifespan of an app, which closes its store."""
    messages: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    complete: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    running = asyncio.ensure_future(app({"type": "lifespan", "asgi": {}, "state": {}}, messages.get, complete.put))
    for step in ("startup", "shutdown"):
        messages.put_nowait({"type": f"lifespan.{step}"})
        await complete.get()
    await running
