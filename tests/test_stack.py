from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import anthropic
import httpx
import httpx2
import openai
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import flexmw
from flexmw.errors import ConfigError, UnknownComponent
from flexmw.kit.component import Order
from flexmw.kit.options import check, option, text
from flexmw.testing import FakeClock, HostileServer

CLIENTS = {
    "httpx sync": (httpx, httpx.Client),
    "httpx async": (httpx, httpx.AsyncClient),
    "httpx2 sync": (httpx2, httpx2.Client),
    "httpx2 async": (httpx2, httpx2.AsyncClient),
}
every_client = pytest.mark.parametrize(("library", "cls"), CLIENTS.values(), ids=CLIENTS)


@dataclass(frozen=True, kw_only=True)
class Server:
    name: ClassVar[str] = "server"
    api: ClassVar[int] = 1
    order: ClassVar[Order] = Order()
    mark: str = option("s", text)
    pepper: str = option("hunter2", secret=True)
    clock: Any = option(None, hidden=True)
    storage: Any = option("redis://app:hunter2@cache")
    __post_init__ = check

    def asgi(self, app: Any) -> Any:
        async def wrapped(scope: Any, receive: Any, send: Any) -> None:
            scope.setdefault("marks", []).append(self.mark)
            await app(scope, receive, send)

        return wrapped


@dataclass(frozen=True, kw_only=True)
class Client:
    name: ClassVar[str] = "client"
    api: ClassVar[int] = 1
    order: ClassVar[Order] = Order(after=("outer",))
    mark: str = "c"

    def flow(self, request: Any) -> Any:
        request.headers["x-marks"] = request.headers.get("x-marks", "") + self.mark
        return (yield flexmw.Send(request))


class Both(Client):
    name: ClassVar[str] = "both"

    def asgi(self, app: Any) -> Any:
        return app


class Outer(Client):
    name: ClassVar[str] = "outer"


async def marks(request: Request) -> JSONResponse:
    return JSONResponse(request.scope.get("marks", []))


APP = Starlette(routes=[Route("/", marks)])


# --- wrap_app --------------------------------------------------------------------------------------------------------


def test_components_stand_around_an_app_outermost_first() -> None:
    app = flexmw.wrap_app(APP, Server(mark="a"), Server(mark="b"), Server(mark="c"))
    assert TestClient(app).get("/").json() == ["a", "b", "c"]


def test_without_components_an_app_gets_the_safe_two() -> None:
    answer = TestClient(flexmw.wrap_app(APP)).get("/nowhere")
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert TestClient(flexmw.wrap_app(APP)).get("/").json() == []


def test_a_name_stands_for_its_component() -> None:
    assert (
        TestClient(flexmw.wrap_app(APP, "envelope")).get("/nowhere").json()["error"]["type"] == "invalid_request_error"
    )


@pytest.mark.parametrize("app", [None, "module:app", 3])
def test_what_is_no_app_is_refused(app: Any) -> None:
    with pytest.raises(ConfigError, match=r"wrap_app\(app\) = .*: expected an ASGI application"):
        flexmw.wrap_app(app)


class _CallsItsAttribute:
    """``SentryAsgiMiddleware`` sets its ``__call__`` on the object, in a slot of that name."""

    __slots__ = ("__call__",)

    def __init__(self, call: Any) -> None:
        self.__call__ = call


def test_an_app_whose_call_is_an_attribute_of_the_object_is_an_app() -> None:
    app: Any = _CallsItsAttribute(lambda scope, receive, send: APP(scope, receive, send))
    assert TestClient(flexmw.wrap_app(app)).get("/nowhere").status_code == 404
    with pytest.raises(ConfigError, match="expected an ASGI application"):
        flexmw.wrap_app(_CallsItsAttribute(lambda scope: None))  # type: ignore[arg-type]


class _ForeignEntry:
    """An entry of ``user_middleware`` as Lilya and Esmerald have it."""


@pytest.mark.parametrize("entries", [(_ForeignEntry(),), None], ids=["lilya", "flama"])
def test_an_app_of_another_framework_may_have_middleware_entries_of_its_own_kind(entries: Any) -> None:
    class Foreign:
        user_middleware = entries
        router = None

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            scope["app"] = self
            if scope["path"] == "/crash":
                raise RuntimeError
            await APP(scope, receive, send)

    components = (flexmw.Tagging(), flexmw.Envelope(), flexmw.RateLimit("1/minute"), flexmw.Idempotency())
    client = TestClient(flexmw.wrap_app(Foreign(), *components), raise_server_exceptions=False)
    assert [client.get(path).status_code for path in ("/crash", "/nowhere")] == [500, 429]


WRONG: list[tuple[Any, str]] = [
    (Server, r"component = .*: expected an object: Server\(\.\.\.\)"),
    (object(), "component = .*: expected an object with an `asgi` or a `flow` method, or the name of one"),
    (None, "component = None: expected an object with an `asgi` or a `flow` method"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=["class", "object", "none"])
def test_what_is_no_component_is_refused_everywhere(wrong: Any, message: str) -> None:
    for wrap in (lambda: flexmw.wrap_app(APP, wrong), lambda: flexmw.wrap_client(httpx.Client(), wrong)):
        with pytest.raises(ConfigError, match=message):
            wrap()
    with pytest.raises(ConfigError, match=message):
        flexmw.Stack(wrong)
    with pytest.raises(UnknownComponent, match="Did you mean 'envelope'"):
        flexmw.Stack("envelop")


def test_a_side_that_is_missing_says_which_one_is_there() -> None:
    with pytest.raises(
        ConfigError,
        match=r"component 'client' = .*: expected one with a server side \(`asgi`\); this one has only a client side",
    ):
        flexmw.wrap_app(APP, Client())
    with pytest.raises(
        ConfigError,
        match=r"component 'server' = .*: expected one with a client side \(`flow`\); this one has only a server side",
    ):
        flexmw.wrap_client(httpx.Client(), Server())


def test_a_wrong_order_is_refused_before_anything_is_wrapped() -> None:
    client = httpx.Client()
    inner = client._transport
    with pytest.raises(ConfigError, match="expected 'outer' outside 'client'; right is: outer, client"):
        flexmw.wrap_client(client, Client(), Outer())
    assert client._transport is inner
    client.close()


# --- wrap_client -----------------------------------------------------------------------------------------------------


def mock(library: Any, heard: list[str]) -> Any:
    """A transport of the library, for both colours."""

    def answer(request: Any) -> Any:
        heard.append(request.headers["x-marks"])
        return library.Response(200)

    return library.MockTransport(answer)


async def get(client: Any, url: str) -> Any:
    answer = client.get(url)
    return await answer if hasattr(answer, "__await__") else answer


async def close(client: Any) -> None:
    if hasattr(client, "aclose"):
        await client.aclose()
    else:
        client.close()


@every_client
@pytest.mark.anyio
async def test_the_same_client_comes_back_with_its_mounts_and_settings(library: Any, cls: Any) -> None:
    heard: list[str] = []
    main, other = mock(library, heard), mock(library, heard)
    client = cls(
        transport=main,
        mounts={"http://mounted": other, "http://also": other, "http://direct": None},
        headers={"x-own": "1"},
        timeout=7.0,
    )
    mounts = list(client._mounts)
    assert flexmw.wrap_client(client, Outer(mark="o"), Client(mark="i")) is client
    assert type(client) is cls
    binding: Any = getattr(flexmw, library.__name__)
    transport = binding.Transport if cls is library.Client else binding.AsyncTransport
    assert isinstance(client._transport, transport)
    assert client._transport.wrapped is main
    assert list(client._mounts) == mounts
    wrapped = [each for each in client._mounts.values() if each is not None]
    assert len(wrapped) == len(client._mounts) - 1
    assert {id(each) for each in wrapped} == {id(wrapped[0])}
    assert wrapped[0].wrapped is other
    for url in ("http://else/", "http://mounted/", "http://also/", "http://direct/"):
        assert (await get(client, url)).status_code == 200
    assert heard == ["oi"] * 4
    assert (client.headers["x-own"], client.timeout.read) == ("1", 7.0)
    await close(client)


@every_client
@pytest.mark.anyio
async def test_a_proxy_stays_a_proxy(library: Any, cls: Any) -> None:
    client = cls(proxy="http://127.0.0.1:9", trust_env=False)
    [before] = client._mounts.values()
    flexmw.wrap_client(client, Client())
    [after] = client._mounts.values()
    assert after.wrapped is before
    assert type(after.wrapped._pool).__name__.endswith("HTTPProxy")
    await close(client)


@every_client
@pytest.mark.anyio
async def test_wrapping_twice_is_refused_and_changes_nothing(library: Any, cls: Any) -> None:
    client = flexmw.wrap_client(cls(), Client())
    once = client._transport
    with pytest.raises(ConfigError, match="expected a client that is not wrapped yet: wrap it once"):
        flexmw.wrap_client(client, Client())
    assert client._transport is once
    await close(client)
    mounted = cls(mounts={"all://": once})
    plain = mounted._transport
    with pytest.raises(ConfigError, match="wrap it once"):
        flexmw.wrap_client(mounted, Client())
    assert mounted._transport is plain
    await close(mounted)


@every_client
@pytest.mark.anyio
async def test_without_components_a_client_gets_tagging_and_retry(library: Any, cls: Any) -> None:
    client = flexmw.wrap_client(cls())
    assert [each.name for each in client._transport.components] == ["tagging", "retry"]
    await close(client)


@pytest.mark.parametrize(
    "wrong", [None, "client", object(), httpx.Client, flexmw], ids=lambda each: type(each).__name__
)
def test_what_is_no_client_is_refused(wrong: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"wrap_client\(client\) = .*expected a Client or AsyncClient of httpx or httpx2"
    ):
        flexmw.wrap_client(wrong)


def test_an_sdk_object_is_refused_with_the_way_to_do_it() -> None:
    message = r"OpenAI\(http_client=flexmw\.wrap_client\(DefaultHttpxClient\(\)\)\)"
    sdk: Any = openai.OpenAI(api_key="sk-abcdefgh", base_url="http://127.0.0.1:9")
    with sdk, pytest.raises(ConfigError, match=message):
        flexmw.wrap_client(sdk)


def test_a_subclass_of_a_client_is_wrapped_by_its_library() -> None:
    class Mine(httpx2.Client):
        pass

    with flexmw.wrap_client(Mine(), "retry") as client:
        assert isinstance(client._transport, flexmw.httpx2.Transport)


def test_the_clock_is_handed_to_the_transports() -> None:
    clock = FakeClock()

    class Patient(Client):
        def flow(self, request: Any) -> Any:
            yield flexmw.Sleep(3600.0)
            return (yield flexmw.Send(request))

    with HostileServer() as server, flexmw.wrap_client(httpx.Client(), Patient(), clock=clock) as client:
        assert client.get(server.url).status_code == 200
    with HostileServer() as server, flexmw.Stack(Patient()).wrap_client(httpx.Client(), clock=clock) as client:
        assert client.get(server.url).status_code == 200
    assert clock.slept == [3600.0, 3600.0]


def chat(sdk: Any) -> Any:
    return sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])


def message(sdk: Any) -> Any:
    return sdk.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}])


SDKS: dict[str, tuple[Callable[..., Any], Any, Callable[[Any], Any]]] = {
    "openai": (openai.OpenAI, openai.DefaultHttpxClient, chat),
    "anthropic": (anthropic.Anthropic, anthropic.DefaultHttpxClient, message),
}


@pytest.mark.parametrize(("sdk", "http", "call"), SDKS.values(), ids=SDKS)
def test_an_sdk_takes_its_own_client_wrapped(sdk: Any, http: Any, call: Callable[[Any], Any]) -> None:
    with HostileServer() as server:
        client = flexmw.wrap_client(http(), Outer(mark="o"), Client(mark="i"))
        with sdk(api_key="sk-abcdefgh", base_url=f"{server.url}/v1", http_client=client) as wrapped:
            call(wrapped)
        assert server.requests[0].header("x-marks") == "oi"
        assert server.executions == 1


# --- Stack -----------------------------------------------------------------------------------------------------------


def test_a_stack_gives_each_side_the_components_with_its_side() -> None:
    stack = flexmw.Stack(Server(), Outer(), Client(), Both())
    assert TestClient(stack.wrap_app(APP)).get("/").json() == ["s"]
    with stack.wrap_client(httpx.Client()) as client:
        transport: Any = client._transport
        assert [each.name for each in transport.components] == ["outer", "client", "both"]


def test_a_stack_without_the_needed_side_says_so() -> None:
    with pytest.raises(
        ConfigError, match=r"Stack = \['client'\]: expected at least one component with a server side \(`asgi`\)"
    ):
        flexmw.Stack(Client()).wrap_app(APP)
    with pytest.raises(ConfigError, match=r"Stack = \['server'\]: expected at least one component with a client side"):
        flexmw.Stack(Server()).wrap_client(httpx.Client())
    with pytest.raises(ConfigError, match="at least one component"):
        flexmw.Stack().wrap_app(APP)


def test_a_description_names_sides_and_options_and_masks_secrets() -> None:
    stack = flexmw.Stack(Server(storage=["redis://:hunter2@a", {"url": "redis://:hunter2@b"}, None, 1.5, True]), Both())
    assert stack.describe() == [
        {
            "name": "server",
            "faces": ["server"],
            "options": {
                "mark": "s",
                "pepper": "***",
                "storage": ["redis://***@a", "{'url': 'redis://***@b'}", None, 1.5, True],
            },
        },
        {"name": "both", "faces": ["server", "client"], "options": {"mark": "c"}},
    ]
    assert flexmw.Stack(Server()).describe()[0]["options"]["storage"] == "redis://***@cache"


def test_a_component_that_is_no_dataclass_is_described_without_options() -> None:
    class Plain:
        name, api, order = "plain", 1, Order()

        def asgi(self, app: Any) -> Any:
            return app

    assert flexmw.Stack(Plain()).describe() == [{"name": "plain", "faces": ["server"], "options": {}}]


def test_no_repr_shows_a_secret() -> None:
    stack = flexmw.Stack(Server(), Client())
    assert repr(stack).startswith("Stack(Server(mark='s', storage='redis://***@cache'), Client(")
    assert "hunter2" not in repr(stack)
    assert "hunter2" not in str(stack.describe())


def test_a_stack_is_loaded_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "flexmw.toml"
    path.write_text("[tagging]\n[envelope]\n[retry]\nattempts = 2\n")
    stack = flexmw.Stack.load(path)
    assert [each.name for each in stack.components] == ["tagging", "envelope", "retry"]
    assert TestClient(stack.wrap_app(APP)).get("/nowhere").json()["error"]["type"] == "invalid_request_error"
    monkeypatch.chdir(tmp_path)
    assert flexmw.Stack.load().describe() == stack.describe()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[retry]\nattempts = 0\n", r"flexmw\.toml, line 2: Retry\(attempts=\.\.\.\) = 0: expected"),
        ("[retry]\n\natempts = 2\n", r"flexmw\.toml, line 3: retry: option = 'atempts': expected one of .*attempts"),
        (
            "[envelope]\n[retri]\n",
            r"flexmw\.toml, line 2: plugin 'retri': no component has this name\. Did you mean 'retry'\?",
        ),
        ("[envelope]\n[tagging]\n", r"flexmw\.toml: order of components \(outermost first\) = 'envelope, tagging'"),
    ],
)
def test_a_bad_file_names_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "flexmw.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        flexmw.Stack.load(path)


def test_a_plain_app_can_be_anything_that_is_called() -> None:
    class App:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await PlainTextResponse("plain")(scope, receive, send)

    assert TestClient(flexmw.wrap_app(App(), Server())).get("/").text == "plain"


def test_the_file_of_the_documentation_is_a_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[1] / "docs" / "cli.md"
    path = tmp_path / "flexmw.toml"
    path.write_text(page.read_text("utf-8").split("```toml\n")[1].split("```")[0])
    monkeypatch.setenv("REDIS_URL", "redis://localhost")
    names = ["tagging", "envelope", "ratelimit", "idempotency", "retry"]
    assert [each.name for each in flexmw.Stack.load(path).components] == names


def test_an_error_while_an_app_is_wrapped_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "flexmw.toml"
    path.write_text('[envelope]\n\n[ratelimit]\nrates = ["1/minute"]\nstorage = "redis://127.0.0.1:1"\n')
    with pytest.raises(ConfigError, match=r"flexmw\.toml, line 5: RateLimit\(storage=\.\.\.\) = .*127\.0\.0\.1:1"):
        flexmw.Stack.load(path).wrap_app(APP)
    path.write_text('[idempotency]\nstorage = "sqlite:////no/such/folder/keys.db"\n')
    with pytest.raises(ConfigError, match=r"flexmw\.toml, line 2: Idempotency\(storage=\.\.\.\) = "):
        flexmw.Stack.load(path).wrap_app(APP)


def test_an_error_while_a_client_is_wrapped_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "flexmw.toml"
    path.write_text('[retry]\n[pace]\nstorage = "redis://127.0.0.1:1"\n')
    stack = flexmw.Stack.load(path)
    with httpx.Client() as client, pytest.raises(ConfigError) as caught:
        stack.wrap_client(stack.wrap_client(client))
    assert str(caught.value).startswith(f"{path}: wrap_client(client) = ")


def test_a_component_that_a_profile_adds_is_put_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "flexmw.toml"
    path.write_text('[idempotency]\n[retry]\n[profile.prod.ratelimit]\nrates = ["1/minute"]\n[profile.prod.tagging]\n')
    names = [each.name for each in flexmw.Stack.load(path, profile="prod").components]
    assert sorted(names) == ["idempotency", "ratelimit", "retry", "tagging"]
    assert names.index("tagging") < names.index("ratelimit") < names.index("idempotency")
    stack = flexmw.Stack.load(path, overrides=["retry=false", "ratelimit.rates=2/minute"])
    assert [each.name for each in stack.components] == ["ratelimit", "idempotency"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('ratelimit]\nrates = ["10/minit"]', r"line 3 \(profile 'prod', not chosen\): RateLimit\("),
        ("retry]\nresume = 0\nresume_patience = 3.0", r"line 4 \(profile 'prod', not chosen\): Retry\(resume_pat"),
        ("retry]\nattemps = 2", r"line 3 \(profile 'prod', not chosen\): retry: option = 'attemps'"),
        ('retry]\nattempts = 0\ndeadline = { env = "X" }', r"line 3 \(profile 'prod', not chosen\): Retry\(attempts="),
    ],
)
def test_a_profile_that_is_not_chosen_is_checked_by_its_components(tmp_path: Path, table: str, message: str) -> None:
    path = tmp_path / "flexmw.toml"
    path.write_text(f"[envelope]\n[profile.prod.{table}\n")
    with pytest.raises(ConfigError, match=message):
        flexmw.Stack.load(path)


def test_a_profile_that_is_not_chosen_has_no_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("contacted a store, or looked for a driver")

    monkeypatch.setattr("flexmw.kit.redis_probe.probe_redis", refuse)
    monkeypatch.setattr("flexmw.kit.store_url.find_spec", refuse)
    monkeypatch.setattr("flexmw.ratelimit.naming._counters.number", refuse)
    path = tmp_path / "flexmw.toml"
    path.write_text("""
        [envelope]
        [profile.prod.ratelimit]
        rates = ["10/minute"]
        storage = "redis://cache.invalid"
        [profile.prod.idempotency]
        storage = "redis://cache.invalid"
        [profile.prod.pace]
        storage = "redis://cache.invalid"
    """)
    assert [each.name for each in flexmw.Stack.load(path).components] == ["envelope"]
