"""One limiter around several apps: which requests it counts, and how often."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import Message

import flexmw
from flexmw import RateLimit
from flexmw.testing import FakeClock
from tests.ratelimit.calls import answering, call, scope_of
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio


def nested(limiter: RateLimit, *, lazily: bool = False) -> Any:
    """A limiter around an app, and around an app that is mounted in it."""
    inner = Starlette(routes=[Route("/orders", lambda request: PlainTextResponse("made"))])
    if lazily:  # Starlette makes the middleware with the first request
        inner.add_middleware(limiter.asgi)
        return flexmw.wrap_app(Starlette(routes=[Mount("/api", inner)]), flexmw.Envelope(), limiter)
    return flexmw.wrap_app(Starlette(routes=[Mount("/api", limiter.asgi(inner))]), flexmw.Envelope(), limiter)


@pytest.fixture
def anyio_backend() -> str:
    """Stores over a network need asyncio."""
    return "asyncio"


@pytest.fixture(params=["memory", "redis"])
def storage(request: pytest.FixtureRequest) -> str:
    return "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")


@pytest.mark.parametrize("options", [{}, {"prefix": "nested-apps"}, {"exempt": ["/healthz"]}])
async def test_a_request_through_a_mounted_app_counts_once(storage: str, options: dict[str, Any]) -> None:
    clock = FakeClock(now=1_800_000_000.0)
    app = nested(RateLimit("2/minute", storage=storage, store_timeout=LONGEST_WAIT, clock=clock, **options))
    answers = [await call(app, path="/api/orders") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert [answer.quota[1] for answer in answers] == [1, 0, 0]


@pytest.mark.parametrize("lazily", [False, True])
async def test_a_request_needs_one_slot_at_two_depths(storage: str, *, lazily: bool) -> None:
    app = nested(RateLimit(concurrency=1, storage=storage, store_timeout=LONGEST_WAIT), lazily=lazily)
    assert [(await call(app, path="/api/orders")).status for _ in range(3)] == [200] * 3


async def test_apps_side_by_side_share_the_counters_of_their_limiter() -> None:
    limiter = RateLimit("2/minute", clock=FakeClock(now=1_800_000_000.0))
    apps = [limiter.asgi(answering()) for _ in range(3)]
    assert [(await call(app)).status for app in apps] == [200, 200, 429]


@pytest.mark.parametrize("options", [{"prefix": "called-again"}, {}])
async def test_a_request_that_was_refused_is_refused_again_where_a_middleware_calls_the_app_again(
    storage: str, options: dict[str, Any]
) -> None:
    limiter = RateLimit(
        "2/minute", storage=storage, store_timeout=LONGEST_WAIT, clock=FakeClock(now=1_800_000_000.0), **options
    )
    limited, other = limiter.asgi(answering()), limiter.asgi(answering())

    async def fallback(scope: Any, receive: Any, send: Any) -> None:
        async def dropped(message: Message) -> None:
            pass

        await limited(scope, receive, dropped)
        await other(scope, receive, send)

    answers = [await call(fallback) for _ in range(2)]
    assert [(answer.status, answer.quota[1]) for answer in answers] == [(200, 0), (429, 0)]


async def test_a_second_call_of_the_app_needs_a_slot_as_the_first_one(storage: str) -> None:
    limiter = RateLimit(concurrency=1, storage=storage, store_timeout=LONGEST_WAIT, prefix="called-again")
    begun, gone = anyio.Event(), anyio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await gone.wait()
        await answering()(scope, receive, send)

    holding, limited = limiter.asgi(slow), limiter.asgi(answering())

    async def again(scope: Any, receive: Any, send: Any) -> None:
        async def dropped(message: Message) -> None:
            pass

        await limited(scope, receive, dropped)
        await limited(scope, receive, send)

    async with anyio.create_task_group() as group:
        group.start_soon(call, holding)
        await begun.wait()
        assert (await call(again)).status == 429
        gone.set()
    assert (await call(again)).status == 200


async def test_a_message_of_a_websocket_counts_once_at_two_depths() -> None:
    received: list[str] = []

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            received.append(message["text"])

    limiter = RateLimit(messages="2/minute", clock=FakeClock(now=1_800_000_000.0))
    mounted = limiter.asgi(echo)

    async def around(scope: Any, receive: Any, send: Any) -> None:
        await mounted(scope, receive, send)

    messages: list[Message] = [{"type": "websocket.receive", "text": text} for text in "abc"]
    incoming = iter([{"type": "websocket.connect"}, *messages, {"type": "websocket.disconnect", "code": 1000}])
    sent: list[Message] = []

    async def receive() -> Message:
        return next(incoming)

    async def send(message: Message) -> None:
        sent.append(message)

    await limiter.asgi(around)(scope_of(type="websocket"), receive, send)
    assert received == ["a", "b"]
    assert sent[-1]["type"] == "websocket.close"
