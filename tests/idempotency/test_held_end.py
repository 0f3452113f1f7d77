"""The end of a keyed stream, which a framework may send although the producer of the stream has failed."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any
from weakref import ref

import anyio
import anyio.lowlevel
import pytest
from litestar import Litestar, post
from litestar.background_tasks import BackgroundTask as LitestarTask
from litestar.response import Stream
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

import flexmw
from flexmw.kit.asgi import Receive, Scope, Send
from tests.idempotency.calls import KEYED, Caller
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio

PARTS = [b"data: one\n\n", b"data: two\n\n"]
EVENTS = "text/event-stream"
COMPONENTS = {
    "alone": lambda: (flexmw.Idempotency(),),
    "in an Envelope": lambda: (flexmw.Envelope(), flexmw.Idempotency()),
}


class Unchanged(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


def starlette(
    *, media_type: str, fails: bool = False, middleware: int = 0, background: Callable[[], Any] | None = None
) -> Starlette:
    async def parts() -> AsyncIterator[bytes]:
        for part in PARTS:
            yield part
        if fails:
            raise ConnectionError("the model died")

    async def work(request: Request) -> StreamingResponse:
        task = None if background is None else BackgroundTask(background)
        return StreamingResponse(parts(), media_type=media_type, background=task)

    return Starlette(routes=[Route("/orders", work, methods=["POST"])], middleware=[Middleware(Unchanged)] * middleware)


def is_ended(call: Caller) -> bool:
    return any(message["type"] == "http.response.body" and not message.get("more_body") for message in call.sent)


@pytest.mark.parametrize("components", COMPONENTS)
@pytest.mark.parametrize("middleware", [0, 1, 3])
async def test_half_a_body_is_no_whole_one_whatever_ends_it(components: str, middleware: int) -> None:
    app = flexmw.wrap_app(
        starlette(media_type="text/plain", fails=True, middleware=middleware), *COMPONENTS[components]()
    )
    first = await Caller(app, headers=KEYED)()
    assert (first.status, first.answer, is_ended(first)) == (200, b"".join(PARTS), False)
    assert isinstance(first.raised, ConnectionError)
    again = await Caller(app, headers=KEYED)()
    assert (again.status, is_ended(again)) == (500, True)


class Held:
    """What a request refers to."""


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio's own cancellations leave cycles
@pytest.mark.parametrize("components", COMPONENTS)
async def test_a_stream_leaves_nothing_to_the_garbage_collector(components: str) -> None:
    async def work(scope: Scope, receive: Receive, send: Send) -> None:
        head = {"status": 200, "headers": [(b"content-type", EVENTS.encode())]}
        await send({"type": "http.response.start", **head})
        for part in PARTS:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            await anyio.lowlevel.checkpoint()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    app = flexmw.wrap_app(work, *COMPONENTS[components]())
    held = Held()
    reference = ref(held)
    gc.disable()
    try:
        call = Caller(app, headers=KEYED, scope={"test.held": held})
        del held
        assert is_ended(await call())
        del call
        await anyio.lowlevel.checkpoint()  # the last callback of a task
        assert reference() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("components", COMPONENTS)
@pytest.mark.parametrize("middleware", [0, 1, 3])
async def test_half_an_event_stream_ends_with_an_error_in_each_replay(components: str, middleware: int) -> None:
    app = flexmw.wrap_app(starlette(media_type=EVENTS, fails=True, middleware=middleware), *COMPONENTS[components]())
    first = await Caller(app, headers=KEYED)()
    assert is_ended(first) == (components != "alone")
    again = await Caller(app, headers=KEYED)()
    assert again.answer.startswith(b"".join(PARTS) + b"event: error\n")
    assert (again.status, is_ended(again)) == (200, True)


@pytest.mark.parametrize("middleware", [0, 1])
async def test_a_failing_background_task_leaves_the_stream_whole(middleware: int) -> None:
    async def fail() -> None:
        raise ValueError("after the response")

    inner = starlette(media_type="text/plain", middleware=middleware, background=fail)
    app = flexmw.wrap_app(inner, flexmw.Idempotency())
    first = await Caller(app, headers=KEYED)()
    assert isinstance(first.raised, ValueError)
    again = await Caller(app, headers=KEYED)()
    assert [(call.status, call.answer, is_ended(call)) for call in (first, again)] == [(200, b"".join(PARTS), True)] * 2


async def test_a_failing_background_task_of_litestar_leaves_the_stream_whole() -> None:
    async def fail() -> None:
        raise ValueError("after the response")

    async def parts() -> AsyncIterator[bytes]:
        for part in PARTS:
            yield part

    @post("/orders", status_code=200)
    async def work() -> Stream:
        return Stream(parts(), background=LitestarTask(fail))

    app = flexmw.wrap_app(Litestar([work], logging_config=None), flexmw.Idempotency())
    first = await Caller(app, headers=KEYED)()
    again = await Caller(app, headers=KEYED)()
    assert [(call.status, call.answer, is_ended(call)) for call in (first, again)] == [(200, b"".join(PARTS), True)] * 2


@pytest.mark.parametrize("middleware", [0, 1])
async def test_a_background_task_does_not_hold_the_end_of_the_stream(middleware: int) -> None:
    """The task ends only when the client has the end."""
    calls: list[Caller] = []

    async def wait() -> None:
        await calls[0].complete.wait()

    inner = starlette(media_type="text/plain", middleware=middleware, background=wait)
    calls.append(Caller(flexmw.wrap_app(inner, flexmw.Idempotency()), headers=KEYED))
    with anyio.fail_after(LONGEST_WAIT):
        first = await calls[0]()
    assert (first.answer, first.raised) == (b"".join(PARTS), None)


async def test_trailers_follow_the_end_of_the_stream() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})

    call = await Caller(
        flexmw.wrap_app(app, flexmw.Idempotency()), headers=KEYED, extensions={"http.response.trailers": {}}
    )()
    assert [message["type"] for message in call.sent] == [
        "http.response.start",
        "http.response.body",
        "http.response.body",
        "http.response.trailers",
    ]
    assert call.sent[2].get("more_body", False) is False


async def test_an_error_that_begins_after_the_end_cuts_the_stream() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        with contextlib.suppress(RuntimeError):
            await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"the error"})

    first = await Caller(flexmw.wrap_app(app, flexmw.Idempotency()), headers=KEYED)()
    again = await Caller(first.app, headers=KEYED)()
    assert (first.answer, is_ended(first), again.status) == (b"one", False, 500)


async def test_a_body_that_has_its_whole_length_is_ended_at_once() -> None:
    """The app sees its end leave before it goes on."""
    seen: list[bool] = []
    calls: list[Caller] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        seen.append(calls[0].complete.is_set())
        raise ValueError("after the response")

    calls.append(Caller(flexmw.wrap_app(app, flexmw.Idempotency()), headers=KEYED))
    await calls[0]()
    assert seen == [True]
    assert (await Caller(calls[0].app, headers=KEYED)()).answer == b"one"


@pytest.mark.parametrize(
    ("components", "last"),
    [
        ("alone", b"data: [DONE]\n\n"),
        ("in an Envelope", b"data: [DONE]\n\n"),
        ("alone", b"event: message_stop\ndata: {}\n\n"),
    ],
)
async def test_a_stream_that_has_sent_its_last_event_is_whole_whatever_the_app_raises_after_it(
    components: str, last: bytes
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", EVENTS.encode())]})
        for part in (*PARTS, last):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        raise ValueError("a dependency that is closed after the response")

    wrapped = flexmw.wrap_app(app, *COMPONENTS[components]())
    first = await Caller(wrapped, headers=KEYED)()
    assert isinstance(first.raised, ValueError)
    again = await Caller(wrapped, headers=KEYED)()
    whole = b"".join((*PARTS, last))
    assert [(call.status, call.answer, is_ended(call)) for call in (first, again)] == [(200, whole, True)] * 2
