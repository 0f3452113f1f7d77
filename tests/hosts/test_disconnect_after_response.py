"""An app may wait for the disconnect that follows its whole response, as Litestar's streams do: the response ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest
from litestar import Litestar, get
from litestar.response import ServerSentEvent

import flexmw
from tests.servers import ASGIApp, Serve
from tests.waiting import LONGEST_WAIT

COMPONENTS: dict[str, Callable[[], Any]] = {
    "tagging": flexmw.Tagging,
    "envelope": flexmw.Envelope,
    "ratelimit": lambda: flexmw.RateLimit("100/minute"),
    "idempotency": flexmw.Idempotency,
}
RESPONSES = {
    "plain": (200, b"text/plain", b"fine"),
    "stream": (200, b"text/event-stream", b"data: one\n\n"),
    "error": (409, b"text/plain", b"Taken."),
    "bare-500": (500, b"text/plain", b"Internal Server Error"),
}


async def waiting_app(scope: Any, receive: Any, send: Any) -> None:
    """Sends the response that the path names, and returns when it has got the disconnect."""
    if scope["type"] != "http":
        return
    status, media_type, body = RESPONSES[scope["path"][1:]]

    async def wait() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.lowlevel.checkpoint()
        headers = [(b"content-type", media_type)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def waiting_afterwards(scope: Any, receive: Any, send: Any) -> None:
    """The same in one task, which begins to wait after it has sent the last body."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    status, media_type, body = RESPONSES[scope["path"][1:]]
    headers = [(b"content-type", media_type)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    assert (await receive())["type"] == "http.disconnect"


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("app", [waiting_app, waiting_afterwards])
def test_the_response_ends_although_the_app_waits_for_the_disconnect(
    component: str, app: ASGIApp, serve: Serve
) -> None:
    served = serve(flexmw.wrap_app(app, COMPONENTS[component]()), server="hypercorn")
    for name, (status, _, body) in RESPONSES.items():
        for headers in ({}, {"idempotency-key": f"key-{name}"}):
            url = f"{served.url}/{name}"
            response = httpx.post(url, headers=headers, content=b"x", timeout=LONGEST_WAIT)
            assert response.status_code == status
            if status == 200:
                assert response.content == body


def test_the_end_of_a_litestar_stream_does_not_wait_for_the_client(serve: Serve) -> None:
    @get("/events", sync_to_thread=False)
    def events() -> ServerSentEvent:
        async def steps() -> Any:
            yield "one"
            yield "two"

        return ServerSentEvent(steps())

    app: Any = Litestar([events], logging_config=None)
    response = httpx.get(f"{serve(flexmw.wrap_app(app)).url}/events", timeout=LONGEST_WAIT)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.replace("\r\n", "\n") == "data: one\n\ndata: two\n\n"
