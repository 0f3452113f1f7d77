"""New keys of an address are bounded until the app has accepted them.

The promise in SECURITY.md: "No way past a limit".
"""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

import flexmw
from flexmw.kit.asgi import Message, Receive, Scope, Send
from flexmw.ratelimit.core import SECOND
from flexmw.ratelimit.new_keys import NewKeyGuard
from flexmw.testing import FakeClock
from tests.ratelimit.calls import answering, call

pytestmark = pytest.mark.anyio
WINDOW = 60 * SECOND


def test_unproven_keys_are_bounded_and_an_accepted_key_makes_room() -> None:
    guard = NewKeyGuard(2, WINDOW)
    assert [guard.admits(key, "a", 0) for key in ("one", "two", "three")] == [True, True, False]
    assert guard.admits("one", "a", 0)
    assert not guard.knows("one", 0)
    guard.judge("one", "a", 204, 0)
    assert guard.knows("one", 0)
    assert guard.admits("three", "a", 0)


@pytest.mark.parametrize("status", [301, 302, 304, 400, 401, 403, 404, 405, 422, 429])
def test_a_response_that_may_be_made_before_authentication_proves_nothing(status: int) -> None:
    guard = NewKeyGuard(1, WINDOW)
    assert guard.admits("one", "a", 0)
    guard.judge("one", "a", status, 0)
    assert not guard.knows("one", 0)
    assert not guard.admits("two", "a", 0)
    assert guard.admits("two", "b", 0)


def test_a_crash_says_nothing_about_a_key() -> None:
    guard = NewKeyGuard(1, WINDOW)
    assert guard.admits("one", "a", 0)
    guard.judge("one", "a", 500, 0)
    assert not guard.knows("one", 0)
    assert guard.admits("two", "a", 0)


def test_a_refused_key_is_not_proven_by_a_public_route() -> None:
    guard = NewKeyGuard(1, WINDOW)
    assert guard.admits("one", "a", 0)
    guard.judge("one", "a", 401, 0)
    guard.judge("one", "a", 200, 0)
    assert not guard.knows("one", 0)
    assert not guard.admits("two", "a", 0)


def test_the_window_of_an_address_ends() -> None:
    guard = NewKeyGuard(1, WINDOW)
    assert guard.admits("one", "a", 0)
    guard.judge("one", "a", 401, 0)
    assert not guard.admits("two", "a", WINDOW - 1)
    assert guard.admits("two", "a", WINDOW)
    assert not guard.admits("one", "a", WINDOW)  # a key that was refused before counts again


def test_the_window_is_an_hour_at_most() -> None:
    guard = NewKeyGuard(1, 86_400 * SECOND)
    assert guard.admits("one", "a", 0)
    assert not guard.admits("two", "a", 1)
    assert guard.admits("two", "a", 3_601 * SECOND)


def test_keys_that_an_address_proved_on_a_public_route_are_void_once_it_is_exhausted() -> None:
    guard = NewKeyGuard(3, WINDOW)
    for number in range(100):
        assert guard.admits(f"invented-{number}", "a", 0)
        guard.judge(f"invented-{number}", "a", 200, 0)
    assert guard.admits("customer", "b", 0)
    guard.judge("customer", "b", 200, 0)
    for number in range(3):
        assert guard.knows(f"invented-{number}", 1)
        guard.refuse(f"invented-{number}", 1)
    assert not any(guard.knows(f"invented-{number}", 2) for number in range(100))
    assert not guard.admits("invented-50", "a", 2)
    guard.judge("invented-50", "a", 200, 2)
    assert not guard.knows("invented-50", 2)
    assert guard.knows("customer", 2)
    assert guard.knows("invented-50", WINDOW + 1)


def test_a_key_that_was_accepted_in_an_earlier_window_survives_a_403_and_a_flood() -> None:
    guard = NewKeyGuard(2, WINDOW)
    assert guard.admits("customer", "a", 0)
    guard.judge("customer", "a", 200, 0)
    later = WINDOW + 1
    assert guard.admits("invented-1", "a", later)
    guard.refuse("customer", later)
    assert guard.knows("customer", later)
    assert guard.admits("invented-2", "a", later)
    assert not guard.admits("invented-3", "a", later)
    assert guard.knows("customer", later)


async def test_a_thousand_customers_behind_one_proxy_all_pass_once_each(caplog: pytest.LogCaptureFixture) -> None:
    for options in ({}, {"key": "header:x-api-key"}, {"tokens": "1000/minute"}):
        app = flexmw.RateLimit("10/minute", **options).asgi(answering())
        headers = [[("x-api-key", f"customer-{number}")] for number in range(1000)]
        statuses = {(await call(app, f"customer-{number}", headers=headers[number])).status for number in range(1000)}
        assert statuses == {200}
    assert not caplog.messages


@pytest.mark.parametrize("options", [{}, {"key": "header:x-api-key"}, {"concurrency": 10}], ids=repr)
@pytest.mark.parametrize("enveloped", [True, False])
async def test_a_flood_of_invented_keys_is_held_to_the_bound_and_warns_once(
    options: dict[str, Any], enveloped: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app: Any = answering(401)
    served = flexmw.RateLimit("2/minute", new_keys_per_address=20, clock=FakeClock(), **options).asgi(app)
    if enveloped:
        served = flexmw.Envelope().asgi(served)
    with caplog.at_level(logging.WARNING, "flexmw.ratelimit"):
        for number in range(200):
            await call(served, f"invented-{number}", headers=[("x-api-key", f"invented-{number}")])
    assert app.calls == 22
    (message,) = caplog.messages
    assert "new_keys_per_address=20" in message
    assert "192.0.2.7" in message
    assert "invented" not in message


async def site(scope: Scope, receive: Receive, send: Send) -> None:
    """Everybody may read the front page; the login refuses."""
    status = 200 if scope["path"] == "/" else 401
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body"})


@pytest.mark.parametrize("options", [{}, {"key": "header:x-api-key"}, {"concurrency": 10}], ids=repr)
@pytest.mark.parametrize("enveloped", [True, False])
async def test_the_front_page_gives_no_fresh_limit_on_the_login(options: dict[str, Any], enveloped: bool) -> None:
    attempts = 0

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal attempts
        attempts += scope["path"] == "/login"
        await site(scope, receive, send)

    served = flexmw.RateLimit("4/minute", new_keys_per_address=10, clock=FakeClock(), **options).asgi(counted)
    if enveloped:
        served = flexmw.Envelope().asgi(served)
    keys = [f"invented-{number}" for number in range(200)]
    for path in ("/", "/login"):
        for key in keys:
            await call(served, key, path=path, headers=[("x-api-key", key)])
    assert attempts <= 10 + 4


async def test_an_error_that_the_app_raises_refuses_a_key(caplog: pytest.LogCaptureFixture) -> None:
    runs = 0

    async def raising(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal runs
        runs += 1
        raise flexmw.InvalidAPIKey

    served = flexmw.Envelope().asgi(flexmw.RateLimit("2/minute", new_keys_per_address=5).asgi(raising))
    statuses = [(await call(served, f"invented-{number}")).status for number in range(20)]
    assert (runs, statuses.count(401)) == (7, 7)


async def test_an_accepted_websocket_proves_a_key_and_a_refused_one_does_not() -> None:
    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"} if scope["path"] == "/in" else {"type": "websocket.close"})

    app = flexmw.RateLimit("5/minute", new_keys_per_address=3).asgi(door)

    async def connect(key: str, path: str) -> bool:
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        async def send(message: Message) -> None:
            sent.append(message)

        headers = [(b"authorization", f"Bearer {key}".encode())]
        scope = {"type": "websocket", "path": path, "headers": headers, "client": ("192.0.2.7", 1)}
        await app(scope, receive, send)
        return sent[0].get("code") != 1008

    assert all([await connect(f"customer-{number}", "/in") for number in range(20)])
    assert [await connect(f"invented-{number}", "/out") for number in range(10)].count(True) == 3 + 5


async def test_keys_in_flight_are_bounded_at_once() -> None:
    arrived, proceed = 0, anyio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal arrived
        arrived += 1
        await proceed.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    app = flexmw.RateLimit("2/minute", new_keys_per_address=4).asgi(slow)
    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(call, app, f"new-{number}")
        await anyio.wait_all_tasks_blocked()
        assert arrived == 4 + 2
        proceed.set()
