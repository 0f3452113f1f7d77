"""A server that stops while requests run: its own error is none of the contract, and SDKs would send a POST again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx
import pytest

import flexmw
from tests.servers import Http, uvicorn_server
from tests.waiting import LONGEST_WAIT

REQUESTS: list[tuple[str, dict[str, str]]] = [("/", {}), ("/", {"idempotency-key": "k"}), ("/stream", {})]


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_what_uvicorn_cancels_ends_with_an_error_of_the_contract(http: Http, caplog: pytest.LogCaptureFixture) -> None:
    running = threading.Barrier(len(REQUESTS) + 1)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        if scope["path"] == "/stream":
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await anyio.to_thread.run_sync(running.wait, LONGEST_WAIT)
        await anyio.sleep_forever()

    def post(path: str, headers: dict[str, str]) -> httpx.Response:
        return httpx.post(f"{served.url}{path}", headers=headers, timeout=LONGEST_WAIT)

    with ThreadPoolExecutor() as threads:
        with uvicorn_server(
            flexmw.wrap_app(app, flexmw.Envelope(), flexmw.Idempotency()), http=http, stop_seconds=0
        ) as served:
            posts = [threads.submit(post, *request) for request in REQUESTS]
            running.wait(LONGEST_WAIT)
        plain, keyed, stream = (each.result(LONGEST_WAIT) for each in posts)
    assert (plain.status_code, plain.json()["error"]["code"]) == (500, "internal_error")
    assert (keyed.status_code, keyed.json()["error"]["code"]) == (500, "idempotency_ended")
    assert plain.headers["x-should-retry"] == keyed.headers["x-should-retry"] == "false"
    assert stream.content.startswith(b'data: 1\n\nevent: error\ndata: {"error":')
    assert [line.name for line in caplog.records if line.name.startswith("flexmw")] == ["flexmw.idempotency"]
