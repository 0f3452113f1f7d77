"""``flexmw.install``: the same app, with components around everything in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

import flexmw
from tests.frameworks.apps import APPS, starlette

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
every_framework = pytest.mark.parametrize("make", APPS.values(), ids=APPS)
UI = "https://ui.example"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def client_of(app: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://host")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Appends its letter to a header, and notes the lifespan."""

    name: ClassVar[str] = "acme.mark"
    api: ClassVar[int] = 1
    order: ClassVar[flexmw.Order] = flexmw.Order()
    letter: str
    stages: list[str]

    def asgi(self, app: Any) -> Any:
        async def marked(scope: Any, receive: Any, send: Any) -> None:
            async def marking(message: Any) -> None:
                if message["type"].startswith("lifespan."):
                    self.stages.append(f"{self.letter} {message['type'].removeprefix('lifespan.')}")
                if message["type"] == "http.response.start":
                    message = {**message, "headers": [*message["headers"], (b"x-mark", self.letter.encode())]}
                await send(message)

            await app(scope, receive, marking)

        return marked


@every_framework
async def test_the_app_stays_the_same_object_of_the_same_type(make: Callable[[], Any]) -> None:
    app = make()
    kind = type(app)
    assert flexmw.install(app, flexmw.Envelope(), flexmw.RateLimit("2/hour")) is app
    assert type(app) is kind
    async with client_of(app) as client:
        assert (await client.get("/ok")).status_code == 200
        missing = await client.get("/nowhere")
        assert (missing.status_code, missing.json()["error"]["type"]) == (404, "invalid_request_error")
        assert missing.headers["x-request-id"]
        limited = await client.get("/ok")
        assert (limited.status_code, limited.json()["error"]["code"]) == (429, "rate_limit_exceeded")


@every_framework
async def test_a_crash_and_a_raised_kind_keep_the_contract(make: Callable[[], Any]) -> None:
    app = flexmw.install(make())
    async with client_of(app) as client:
        crash = await client.get("/crash")
        assert (crash.status_code, crash.json()["error"]["code"]) == (500, "internal_error")
        kind = await client.get("/kind")
        assert (kind.status_code, kind.json()["error"]["code"]) == (400, "model_not_found")
        wrong = await client.delete("/ok")
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")


@every_framework
async def test_a_browser_can_read_what_the_components_refuse(make: Callable[..., Any]) -> None:
    app = flexmw.install(make(origins=[UI]), flexmw.Envelope(), flexmw.RateLimit("1/hour"))
    async with client_of(app) as client:
        for status in (200, 429):
            response = await client.get("/ok", headers={"origin": UI})
            assert (response.status_code, response.headers["access-control-allow-origin"]) == (status, UI)


@every_framework
async def test_components_run_in_their_order_and_take_part_in_the_lifespan(make: Callable[[], Any]) -> None:
    stages: list[str] = []
    app = flexmw.install(make(), Mark(letter="a", stages=stages), Mark(letter="b", stages=stages))
    async with client_of(app) as client:
        assert (await client.get("/ok")).headers.get_list("x-mark") == ["b", "a"]
    messages = iter(["startup", "shutdown"])

    async def receive() -> Any:
        return {"type": f"lifespan.{next(messages)}"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    sent: list[str] = []
    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert stages == [f"{letter} {stage}.complete" for stage in ("startup", "shutdown") for letter in "ba"]


@every_framework
def test_what_wrap_app_refuses_is_refused_too(make: Callable[[], Any]) -> None:
    with pytest.raises(flexmw.ConfigError, match="order of components"):
        flexmw.install(make(), flexmw.RateLimit("1/hour"), flexmw.Envelope())
    with pytest.raises(flexmw.ConfigError, match="only a client side"):
        flexmw.install(make(), flexmw.Retry())
    with pytest.raises(flexmw.ConfigError, match="no component has this name"):
        flexmw.install(make(), "acme.nothing")
    with pytest.raises(flexmw.ConfigError, match="an object: Envelope"):
        flexmw.install(make(), flexmw.Envelope)  # type: ignore[arg-type]


@every_framework
def test_components_are_installed_once(make: Callable[[], Any]) -> None:
    app = flexmw.install(make())
    for again in (flexmw.install, flexmw.wrap_app):
        with pytest.raises(flexmw.ConfigError, match="all in one call"):
            again(app)
    wrapped = flexmw.wrap_app(inner := make())
    with pytest.raises(flexmw.ConfigError, match="all in one call"):
        flexmw.install(wrapped)
    with pytest.raises(flexmw.ConfigError, match="would act twice"):
        flexmw.install(inner)


@every_framework
async def test_a_refused_component_leaves_the_app_as_it_was(make: Callable[[], Any]) -> None:
    app = make()
    with pytest.raises(flexmw.PluginError):
        flexmw.install(app, flexmw.Envelope(dialects=("acme.nothing",)))
    async with client_of(flexmw.install(app, flexmw.Envelope())) as client:
        assert (await client.get("/ok")).status_code == 200


@every_framework
async def test_a_configuration_file_is_installed(make: Callable[[], Any], tmp_path: Path) -> None:
    file = tmp_path / "flexmw.toml"
    file.write_text('[envelope]\n[ratelimit]\nrates = ["1/hour"]\n[retry]\n', encoding="utf-8")
    app = make()
    assert flexmw.Stack.load(file).install(app) is app
    async with client_of(app) as client:
        assert [(await client.get("/ok")).status_code for _ in range(2)] == [200, 429]


def flask() -> Any:
    return lambda environ, start_response: []


async def plain(scope: Any, receive: Any, send: Any) -> None: ...


@pytest.mark.parametrize(
    ("app", "advice"),
    [
        (flask(), "WSGIMiddleware"),
        (plain, r"wrap_app\(app\)"),
        (starlette().router, r"wrap_app\(app\)"),
        (type(starlette()), r"wrap_app\(app\)"),
        (None, r"wrap_app\(app\)"),
    ],
    ids=["wsgi", "function", "router", "class", "None"],
)
def test_an_app_of_another_kind_is_refused_with_what_to_do(app: Any, advice: str) -> None:
    with pytest.raises(flexmw.ConfigError, match=f"FastAPI, Starlette, Litestar or Quart.*{advice}"):
        flexmw.install(app)


async def asgi2(scope: Any) -> Any: ...


@pytest.mark.parametrize(
    ("app", "advice"),
    [(flask(), "WSGIMiddleware"), (asgi2, "scope, receive, send"), (flexmw.Envelope(), "scope, receive, send")],
    ids=["wsgi", "asgi2", "component"],
)
def test_what_is_no_asgi_app_is_not_wrapped(app: Any, advice: str) -> None:
    with pytest.raises(flexmw.ConfigError, match=advice):
        flexmw.wrap_app(app)


def test_an_app_may_have_an_attribute_named_as_the_method_of_a_component() -> None:
    class App:
        asgi = False  # as Sanic's apps have it
        flow = "control"

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    assert callable(flexmw.wrap_app(App()))


@every_framework
async def test_an_installed_app_serves_as_a_mounted_one(make: Callable[[], Any]) -> None:
    outer = starlette()
    outer.mount("/sub", flexmw.install(make()))
    async with client_of(outer) as client:
        assert (await client.get("/sub/kind")).json()["error"]["code"] == "model_not_found"
        assert "error" not in (await client.get("/nowhere")).text


@dataclass(frozen=True, kw_only=True)
class Failing:
    """A component whose lifespan fails: with a message by the protocol, else with an exception."""

    name: ClassVar[str] = "acme.failing"
    api: ClassVar[int] = 1
    order: ClassVar[flexmw.Order] = flexmw.Order()
    message: str

    def asgi(self, app: Any) -> Any:
        async def failing(scope: Any, receive: Any, send: Any) -> None:
            if not self.message:
                raise ValueError("no lifespan")
            await receive()
            await send({"type": "lifespan.startup.failed", "message": self.message})

        return failing


@pytest.mark.parametrize(("message", "error"), [("no store", RuntimeError), ("", ValueError)])
async def test_litestar_does_not_start_without_its_components(message: str, error: type[Exception]) -> None:
    app = flexmw.install(APPS["litestar"](), Failing(message=message))
    with pytest.raises(error, match=message or "no lifespan"):
        async with app._lifespan_managers[-1](app):
            pytest.fail("the app must not start")


async def test_components_shut_down_before_what_the_lifespan_of_litestar_has_opened() -> None:
    from litestar import Litestar

    stages: list[str] = []

    @asynccontextmanager
    async def database(app: Any) -> AsyncIterator[None]:
        stages.append("database opened")
        yield
        stages.append("database closed")

    app = flexmw.install(Litestar(lifespan=[database], logging_config=None), Mark(letter="a", stages=stages))
    async with app.lifespan():
        pass
    assert stages == ["database opened", "a startup.complete", "a shutdown.complete", "database closed"]


async def test_a_failed_start_of_litestar_stays_the_exception_that_it_is() -> None:
    app = flexmw.install(APPS["litestar"]())
    with pytest.raises(KeyError, match="the app's own"):
        async with app._lifespan_managers[-1](app):
            raise KeyError("the app's own")


@pytest.mark.parametrize(
    ("body", "words", "code"),
    [(b"{", None, "invalid_json"), (b"{", "Say it in JSON.", "invalid_request"), (b"{}", None, "invalid_request")],
)
async def test_broken_json_has_its_own_code_on_quart(body: bytes, words: str | None, code: str) -> None:
    from quart import Quart, request
    from werkzeug.exceptions import BadRequest

    app = Quart("shop")

    @app.post("/")
    async def read() -> str:
        try:
            await request.get_json()
        except BadRequest as error:
            if words is not None:
                raise BadRequest(words) from error
            raise
        raise BadRequest

    flexmw.install(app, flexmw.Envelope())
    async with client_of(app) as client:
        response = await client.post("/", content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (400, code)
    assert words is None or response.json()["error"]["message"] == words
