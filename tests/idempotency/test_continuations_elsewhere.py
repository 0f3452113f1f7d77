"""Continuations over real sockets, and on a redis that is killed."""

from __future__ import annotations

import socket
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest

from flexmw.idempotency import Idempotency
from tests.idempotency.streams import EVENT, code, streaming, until
from tests.servers import Serve, redis_binary, redis_process, skip_unless
from tests.waiting import LONGEST_WAIT

GENERATION = b'"0123456789abcdef01234567"'
ODD_FIELDS: tuple[tuple[bytes, ...], ...] = (
    (b"",),
    (b'"',),
    (b'"\\"',),
    (b"'0123456789abcdef01234567';from=1",),
    (b'"\xff0123456789abcdef01234";from=1',),
    (b'"\t";from=1',),
    (GENERATION,),
    (GENERATION + b";from=-1",),
    (GENERATION + b";from=+1",),
    (GENERATION + b";from=1e3",),
    (GENERATION + b";from=\xb2",),
    (GENERATION + b";from=" + b"9" * 30_000,),
    (GENERATION + b";from=1;from",),
    (GENERATION + b";from=1", GENERATION + b";from=1"),
    (GENERATION + b";from=1", b""),
)


@pytest.mark.parametrize(
    ("server", "http"), [("uvicorn", "h11"), ("uvicorn", "httptools"), ("hypercorn", "h11")], ids=str
)
def test_a_field_with_an_odd_value_is_a_400_on_a_socket_and_never_an_execution(
    serve: Serve, server: Literal["uvicorn", "hypercorn"], http: Literal["h11", "httptools"]
) -> None:
    runs: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            runs.append(scope["path"])

    served = serve(Idempotency().asgi(app), server=server, http=http)
    for fields in ODD_FIELDS:
        lines = b"".join(b"idempotent-stream: " + value + b"\r\n" for value in fields)
        with socket.create_connection(("127.0.0.1", served.port), timeout=LONGEST_WAIT) as connection:
            connection.sendall(
                b"POST / HTTP/1.1\r\nhost: app\r\nidempotency-key: k\r\ncontent-length: 2\r\n" + lines + b"\r\n{}"
            )
            with HTTPResponse(connection) as response:
                response.begin()
                assert response.status == 400, fields
                assert b'"idempotency_stream_invalid"' in response.read(), fields
    assert runs == []


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_follower_of_a_redis_that_was_killed_comes_back_and_is_whole(tmp_path: Path) -> None:
    """Takes the second that a log waits for after a write that has failed."""
    binary = redis_binary()
    skip_unless(binary, "redis-server")
    with redis_process(str(binary), tmp_path) as server:
        options: dict[str, Any] = {"lease": 3.0, "on_store_failure": "refuse"}
        async with streaming(lambda: server.url, **options) as stream:
            stream.source.send(EVENT)
            caller = stream.at(0)
            async with anyio.create_task_group() as group:
                group.start_soon(caller)
                await until(lambda: caller.answer)
                await anyio.to_thread.run_sync(server.kill)
                stream.source.send(EVENT)
            assert not caller.complete.is_set()  # the server breaks the connection
            away = await stream.at(len(caller.answer))()
            assert (away.status, code(away)) == (503, "service_unavailable")
            with server.restarted(tmp_path, b"PING"):
                stream.source.send(EVENT)
                while True:
                    again = stream.at(len(caller.answer))
                    async with anyio.create_task_group() as group:
                        group.start_soon(again)
                        await until(lambda: len(again.sent) > 1)  # noqa: B023
                        if again.status == 200:
                            stream.source.end()
                    if again.status == 200:
                        break
                    # The store is asked again after a pause, and has lost the key: the execution claims it anew.
                    assert again.status in (503, 410)
                    await anyio.sleep(0.05)
                await stream.first.complete.wait()
    whole = EVENT * 3
    assert stream.first.answer == caller.answer + again.answer == whole
    assert stream.source.runs == 1
