"""The lifespan of an app that has none: its server is answered in its place."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware

from flexmw.kit.lifespan import run_lifespan

pytestmark = pytest.mark.anyio


async def raises(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("Django can only handle ASGI/HTTP connections, not lifespan.")


async def returns(scope: Any, receive: Any, send: Any) -> None:
    pass


async def asserts(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"


async def reads_the_path(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": scope["path"]})


async def lacks_a_setting(scope: Any, receive: Any, send: Any) -> None:
    raise KeyError("DATABASE_URL")


async def cannot_be_read(scope: Any, receive: Any, send: Any) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    raise Odd


async def fails(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    raise OSError("the database is away")


async def responds(scope: Any, receive: Any, send: Any) -> None:
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.failed"})


async def run(app: Any) -> tuple[int, list[str]]:
    """How many messages were received, and the types of those that were sent."""
    messages, sent = [{"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}], list[str]()

    async def receive() -> Any:
        return messages.pop()

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await run_lifespan(app, {"type": "lifespan"}, receive, send, "flexmw.ratelimit")
    return 2 - len(messages), sent


@pytest.mark.parametrize(
    ("app", "done"),
    [
        (raises, "raised ValueError"),
        (asserts, "raised AssertionError"),
        (reads_the_path, "raised KeyError"),
        (returns, "returned"),
    ],
)
async def test_the_server_of_an_app_without_a_lifespan_is_answered(
    app: Any, done: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert await run(app) == (2, ["lifespan.startup.complete", "lifespan.shutdown.complete"])
    (line,) = caplog.records
    assert (line.name, line.levelname, line.exc_info) == ("flexmw.ratelimit", "INFO", None)
    assert f"(it {done})" in line.getMessage()


async def test_what_an_app_has_raised_is_logged_for_those_who_look(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await run(raises)
    assert "Django can only handle" in caplog.text


async def test_the_lifespan_of_an_app_that_has_one_is_its_own(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert await run(responds) == (2, ["lifespan.startup.complete", "lifespan.shutdown.failed"])
    with pytest.raises(OSError, match="away"):
        await run(fails)
    assert not [line for line in caplog.records if line.name == "flexmw.ratelimit"]


def with_a_middleware_that_cannot_be_made() -> Starlette:
    class Audit:
        def __init__(self, app: Any, *, header: str) -> None: ...

    return Starlette(middleware=[Middleware(Audit)])  # type: ignore[arg-type]  # without its `header`


@pytest.mark.parametrize(
    ("app", "error"),
    [
        (with_a_middleware_that_cannot_be_made(), TypeError),
        (lacks_a_setting, KeyError),
        (cannot_be_read, Exception),
    ],
)
async def test_what_an_app_raises_that_cannot_start_is_left_to_the_server(app: Any, error: type[Exception]) -> None:
    """uvicorn started with `--lifespan on`, and hypercorn wrote no warning."""
    with pytest.raises(error):
        await run(app)
