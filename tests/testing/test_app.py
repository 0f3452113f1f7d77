"""check_app passes what behaves, and finds each thing that does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import anyio
import httpx
import pytest

import flexmw
from flexmw.testing import check_app
from flexmw.testing.app import APP_CHECKS

App = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Component:
    """A component out of a middleware factory."""

    name: ClassVar[str] = "acme.test"
    api: ClassVar[int] = 1
    order: ClassVar[flexmw.Order] = flexmw.Order()
    factory: Callable[[App], App]

    def asgi(self, app: App) -> App:
        return self.factory(app)


def stamp(app: App) -> App:
    """A middleware as it should be."""

    async def stamped(scope: Any, receive: Any, send: Any) -> None:
        async def stamping(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"x-stamp", b"1")]}
            await send(message)

        await app(scope, receive, stamping if scope["type"] == "http" else send)

    return stamped


def needs_a_key(app: App) -> App:
    """Refuses requests without a credential, as a component does that needs ``check_app(headers=...)``."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and (b"authorization", b"Bearer x") not in scope["headers"]:
            raise flexmw.InvalidAPIKey
        await app(scope, receive, send)

    return call


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer x"},
        [("Authorization", "Bearer x")],
        [(b"authorization", b"Bearer x")],
        (pair for pair in [("authorization", "Bearer x")]),
        httpx.Headers({"authorization": "Bearer x"}),
    ],
    ids=["mapping", "pairs", "bytes", "iterator", "headers"],
)
def test_headers_may_be_a_mapping_or_pairs(headers: Any) -> None:
    check_app(Component(factory=needs_a_key), headers=headers)
    with pytest.raises(AssertionError, match="plain request"):
        check_app(Component(factory=needs_a_key))


@pytest.mark.parametrize("headers", ["authorization", ["authorization: Bearer x"], [("authorization", 1)], 5])
def test_other_headers_are_refused_with_what_to_write(headers: Any) -> None:
    with pytest.raises(flexmw.ConfigError, match=r"check_app\(headers=\.\.\.\).*expected a mapping"):
        check_app(Component(factory=stamp), headers=headers)


@pytest.mark.parametrize("side", ["after", "before"])
def test_an_order_with_a_bare_name_that_nothing_has_is_a_fault(side: str) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Misspelt(Component):
        order: ClassVar[flexmw.Order] = flexmw.Order(**{side: ("envelop", "acme.other")})

    with pytest.raises(AssertionError, match=r"\('envelop',\).*did you mean 'envelope'\?") as caught:
        check_app(Misspelt(factory=stamp))
    assert "acme.other" not in str(caught.value)


def only_http(middleware: App) -> Callable[[App], App]:
    def factory(app: App) -> App:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            await (middleware(app, scope, receive, send) if scope["type"] == "http" else app(scope, receive, send))

        return call

    return factory


def needs_headers(app: App) -> App:
    async def call(scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-a", b"1")]
            await send(message)

        await app(scope, receive, sending)

    return call


@only_http
async def folds_headers(app: App, scope: Any, receive: Any, send: Any) -> None:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": list(dict(message.get("headers", ())).items())}
        await send(message)

    await app(scope, receive, sending)


@only_http
async def changes_scope(app: App, scope: Any, receive: Any, send: Any) -> None:
    scope["acme"] = True
    await app(scope, receive, send)


@only_http
async def changes_headers_in_place(app: App, scope: Any, receive: Any, send: Any) -> None:
    scope["headers"].append((b"x-a", b"1"))
    await app(scope, receive, send)


@only_http
async def copies_state(app: App, scope: Any, receive: Any, send: Any) -> None:
    await app({**scope, "state": dict(scope["state"])}, receive, send)


@only_http
async def drops_scope_keys(app: App, scope: Any, receive: Any, send: Any) -> None:
    await app({key: value for key, value in scope.items() if key != "state"}, receive, send)


@only_http
async def eats_the_request_body(app: App, scope: Any, receive: Any, send: Any) -> None:
    message = await receive()
    if message.get("more_body"):
        message = await receive()
    first = [message]

    async def receiving() -> Any:
        return first.pop() if first else await receive()

    await app(scope, receiving, send)


@only_http
async def starts_twice(app: App, scope: Any, receive: Any, send: Any) -> None:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            await send(message)
        await send(message)

    await app(scope, receive, sending)


@only_http
async def sends_after_the_end(app: App, scope: Any, receive: Any, send: Any) -> None:
    await app(scope, receive, send)
    await send({"type": "http.response.body", "body": b"<!-- acme -->"})


@only_http
async def sends_text_headers(app: App, scope: Any, receive: Any, send: Any) -> None:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"X-Acme", b"1")]}
        await send(message)

    await app(scope, receive, sending)


@only_http
async def buffers(app: App, scope: Any, receive: Any, send: Any) -> None:
    held: list[Any] = []

    async def sending(message: Any) -> None:
        held.append(message)

    await app(scope, receive, sending)
    for message in held:
        await send(message)


@only_http
async def swallows(app: App, scope: Any, receive: Any, send: Any) -> None:
    try:
        await app(scope, receive, send)
    except Exception:
        return


@only_http
async def ends_broken_answers(app: App, scope: Any, receive: Any, send: Any) -> None:
    started = False

    async def sending(message: Any) -> None:
        nonlocal started
        started = True
        await send(message)

    try:
        await app(scope, receive, sending)
    except Exception:
        if not started:
            raise
        await send({"type": "http.response.body"})


@only_http
async def begins_and_gives_up(app: App, scope: Any, receive: Any, send: Any) -> None:
    try:
        await app(scope, receive, send)
    except Exception:
        await send({"type": "http.response.start", "status": 500, "headers": []})


class KeepsSendOnSelf:
    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        self.send = send
        return await self.app(scope, receive, self.forward)

    async def forward(self, message: Any) -> None:
        await self.send(message)


def one_app_for_all() -> Callable[[App], App]:
    apps: list[App] = []

    def factory(app: App) -> App:
        apps[:] = [app]

        async def call(scope: Any, receive: Any, send: Any) -> None:
            await apps[0](scope, receive, send)

        return call

    return factory


@only_http
async def swallows_cancellation(app: App, scope: Any, receive: Any, send: Any) -> None:
    try:
        await app(scope, receive, send)
    except anyio.get_cancelled_exc_class():
        return


@only_http
async def shields(app: App, scope: Any, receive: Any, send: Any) -> None:
    with anyio.CancelScope(shield=True), anyio.move_on_after(0.2):
        await app(scope, receive, send)


@only_http
async def answers_the_cancelled(app: App, scope: Any, receive: Any, send: Any) -> None:
    try:
        await app(scope, receive, send)
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True):
            await send({"type": "http.response.start", "status": 499, "headers": []})
        raise


@only_http
async def hides_the_disconnect(app: App, scope: Any, receive: Any, send: Any) -> None:
    async def receiving() -> Any:
        message = await receive()
        return {"type": "http.request", "body": b""} if message["type"] == "http.disconnect" else message

    await app(scope, receiving, send)


def knows_only_http(app: App) -> App:
    async def call(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await app(scope, receive, send)

    return call


def drops(kind: str) -> Callable[[App], App]:
    def factory(app: App) -> App:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != kind:
                await app(scope, receive, send)

        return call

    return factory


def marks_lifespan(app: App) -> App:
    async def call(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            scope["acme"] = True
        await app(scope, receive, send)

    return call


@only_http
async def dawdles(app: App, scope: Any, receive: Any, send: Any) -> None:
    await anyio.sleep(0.03)
    await app(scope, receive, send)


@only_http
async def blocks(app: App, scope: Any, receive: Any, send: Any) -> None:
    time.sleep(0)  # noqa: ASYNC251
    await app(scope, receive, send)


@only_http
async def refuses(app: App, scope: Any, receive: Any, send: Any) -> None:
    if b"authorization" not in dict(scope["headers"]):
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})
    else:
        await app(scope, receive, send)


WRONG = [
    (refuses, "plain request", "ended as 401"),
    (needs_headers, "headers", "without `headers` ended as None"),
    (folds_headers, "headers", "came out with set-cookie [b'b=2']"),
    (changes_scope, "scope", "the server's scope was changed: acme"),
    (changes_headers_in_place, "scope", "the server's scope was changed: headers"),
    (copies_state, "scope", "is not the one of the lifespan"),
    (drops_scope_keys, "scope", "the app's scope lacks state"),
    (eats_the_request_body, "request body", "the app read b'two,three'"),
    (starts_twice, "plain request", "more than one http.response.start"),
    (sends_after_the_end, "plain request", "http.response.body was sent after the last body"),
    (sends_text_headers, "plain request", "lower-case name"),
    (buffers, "streaming", "held back until the next one is there"),
    (swallows, "exception before the start", "swallowed, and no response was sent"),
    (begins_and_gives_up, "exception before the start", "did not complete it"),
    (ends_broken_answers, "exception after the start", "did not reach the server"),
    (KeepsSendOnSelf, "interleaved requests", "keep per-request state in the call"),
    (one_app_for_all(), "two apps", "takes the place of the first"),
    (swallows_cancellation, "cancellation", "was swallowed: the call returned"),
    (shields, "cancellation", "the call returned"),
    (answers_the_cancelled, "cancellation", "http.response.start was sent after the cancellation"),
    (hides_the_disconnect, "disconnect", "received ['http.request']"),
    (drops("lifespan"), "lifespan", "pass lifespan on"),
    (marks_lifespan, "lifespan", "the scope of the lifespan was changed"),
    (drops("websocket"), "websocket", "the app received []"),
    (knows_only_http, "other scopes", "did not reach the app"),
    (dawdles, "latency", "ms longer"),
    (blocks, "blocks", "time.sleep"),
]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_middleware_that_behaves_passes(backend: str) -> None:
    check_app(Component(factory=stamp), backend=backend)


@pytest.mark.parametrize(("factory", "check", "words"), WRONG, ids=lambda value: getattr(value, "__name__", None))
def test_each_misbehaviour_is_named(factory: Any, check: str, words: str) -> None:
    with pytest.raises(AssertionError, match=r"'acme.test' does not conform") as caught:
        check_app(Component(factory=factory))
    lines = [line for line in str(caught.value).splitlines() if line.startswith(f"  - {check}: ")]
    assert any(words in line for line in lines), str(caught.value)


def test_every_check_has_a_component_that_fails_it() -> None:
    assert {check for _, check, _ in WRONG} >= set(APP_CHECKS)


def test_credentials_let_a_component_through_that_asks_for_them() -> None:
    check_app(Component(factory=refuses), headers={"Authorization": "Bearer sk-test"})


@pytest.mark.anyio
async def test_it_runs_inside_an_event_loop_too() -> None:
    check_app(Component(factory=stamp))


def test_a_component_without_a_server_side_is_refused() -> None:
    with pytest.raises(flexmw.ConfigError, match="a server side: a method `asgi`"):
        check_app(flexmw.Retry())
    with pytest.raises(flexmw.ConfigError, match=r"an object: Component\(\.\.\.\)"):
        check_app(Component)


class Undeclared:
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def asgi(self, app: App) -> App:
        return app


GOOD: dict[str, Any] = {"name": "acme.x", "api": 1, "order": flexmw.Order()}


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"name": None}, "`name` is None"),
        ({"name": "audit"}, "call it 'vendor.audit'"),
        ({"api": 99}, "`api` is 99"),
        ({"api": True}, "`api` is True"),
        ({"order": ("envelope",)}, r"`order` is \('envelope',\)"),
        ({}, "make it a frozen dataclass"),
    ],
)
def test_a_wrong_declaration_is_named(attributes: dict[str, Any], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_app(Undeclared(**{**GOOD, **attributes}))


def test_a_component_that_cannot_wrap_is_named() -> None:
    def refuse(app: App) -> App:
        raise RuntimeError("no")

    with pytest.raises(AssertionError, match="plain request: RuntimeError: no"):
        check_app(Component(factory=refuse))


def test_a_component_that_hangs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    @only_http
    async def hangs(app: App, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            await anyio.sleep_forever()
        await app(scope, receive, send)

    monkeypatch.setattr("flexmw.testing.app.PATIENCE", 0.5)
    with pytest.raises(AssertionError, match=r"request body: nothing happened for 0\.5 s"):
        check_app(Component(factory=hangs))
