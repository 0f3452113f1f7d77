"""How a run ends that does not end well: with a server that refuses, a host that leaves, an exception of somebody's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.exceptions import HTTPException

import flexmw
from flexmw.idempotency import Idempotency
from tests.idempotency.calls import KEYED, Caller, Host

pytestmark = pytest.mark.anyio


def error_of(caller: Caller) -> Any:
    return json.loads(caller.answer)["error"]


class Refusing(Caller):
    """A server that takes no message of the answer, and says so in its own way."""

    tried = 0

    async def __call__(self) -> Caller:
        app = self.app

        async def refusing(scope: Any, receive: Any, send: Any) -> None:
            async def refuse(message: Any) -> None:
                self.tried += 1
                raise RuntimeError("no such header")

            await app(scope, receive, refuse)

        self.app = refusing
        return await super().__call__()


async def test_a_response_that_the_server_refuses_is_stored_and_the_failure_raised_once() -> None:
    host = Host(parts=(b"a", b"b", b"c"))
    app = Idempotency().asgi(host)
    first = Refusing(app, headers=KEYED)
    await first()
    assert str(first.raised) == "no such header"
    assert first.tried == 1
    second = await Caller(app, headers=KEYED)()
    assert (second.status, second.answer, second.replayed, host.runs) == (200, b"abc", True, 1)


@pytest.mark.parametrize(
    ("status", "detail", "message"),
    [
        (418, "I am a teapot.", "I am a teapot."),
        (404, {"no": "text"}, "Not found."),
        (502, "backend 10.0.0.7", None),
    ],
)
async def test_an_http_exception_that_nobody_handles_is_stored_with_its_status(
    status: int, detail: Any, message: str | None
) -> None:
    host = Host(error=HTTPException(status, detail, headers={"x-hint": "1"}))
    app = Idempotency().asgi(host)
    first = await Caller(app, headers=KEYED)()
    assert first.raised is host.error
    second = await Caller(app, headers=KEYED)()
    assert (second.status, second.replayed, host.runs) == (status, True, 1)
    assert second.answer_headers["x-hint"] == "1"
    assert "10.0.0.7" not in second.answer.decode()
    if message is not None:
        assert error_of(second)["message"] == message


class Leaving(BaseException):
    """What a server throws into an app that is to end now."""


async def test_a_complete_response_stays_when_the_app_is_cancelled_after_it() -> None:
    class Thrown(Host):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await super().__call__(scope, receive, send)
            raise Leaving

    host = Thrown()
    app = Idempotency().asgi(host)
    with pytest.raises(Leaving):
        await Caller(app, headers=KEYED)()
    second = await Caller(app, headers=KEYED)()
    assert (second.answer, second.replayed, host.runs) == (b"run 1", True, 1)


async def test_a_disconnect_that_the_app_raises_is_kept_as_an_error_of_the_work() -> None:
    """Envelope judges it to be nobody's error, but the work has begun: its key must not be free."""
    host = Host(error=ConnectionResetError("the caller"))
    app = flexmw.wrap_app(host, flexmw.Envelope(), Idempotency())
    await Caller(app, headers=KEYED)()
    second = await Caller(app, headers=KEYED)()
    assert (second.status, second.replayed, host.runs) == (500, True, 1)


async def test_a_body_before_its_start_is_passed_to_the_server_which_refuses_it() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.body", "body": b"too early"})

    caller = Caller(Idempotency().asgi(app), headers=KEYED)
    await caller()
    assert caller.sent[0] == {"type": "http.response.body", "body": b"too early"}


@pytest.mark.parametrize("status", [201, 500])
async def test_a_response_that_was_sent_before_the_crash_is_the_one_that_is_stored(status: int) -> None:
    class Crashing(Host):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await super().__call__(scope, receive, send)
            raise LookupError("after the answer")

    host = Crashing(status=status)
    app = Idempotency().asgi(host)
    first = await Caller(app, headers=KEYED)()
    assert isinstance(first.raised, LookupError)
    second = await Caller(app, headers=KEYED)()
    assert (second.status, second.answer, second.replayed, host.runs) == (status, b"run 1", True, 1)
