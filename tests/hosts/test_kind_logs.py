"""A raised kind is a response: with the lines of docs/hosts.md no framework logs a traceback for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest

import flexmw
from tests.hosts.apps import HOSTS

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


async def litestar(app: Any) -> Any:
    return flexmw.wrap_app(app)


async def quart_installed(app: Any) -> Any:
    return flexmw.install(app)


async def quart_wrapped(app: Any) -> Any:
    app.register_error_handler(flexmw.APIError, lambda error: ("", error.status))
    return flexmw.wrap_app(app)


async def django(app: Any) -> Any:
    from django.test import override_settings

    with override_settings(MIDDLEWARE=["tests.hosts.django_errors.SendErrors"]):
        app.load_middleware(is_async=True)
    return flexmw.wrap_app(app)


async def falcon(app: Any) -> Any:
    async def send_kind(request: Any, response: Any, error: flexmw.APIError, params: Any) -> None:
        response.status = error.status

    app.add_error_handler(flexmw.APIError, send_kind)
    return flexmw.wrap_app(app)


async def blacksheep(app: Any) -> Any:
    from blacksheep import Response

    @app.exception_handler(flexmw.APIError)
    async def send_kind(app: Any, request: Any, error: flexmw.APIError) -> Response:
        return Response(error.status)

    await app.start()
    return flexmw.wrap_app(app)


WAYS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "litestar": ("litestar", litestar),
    "quart, installed": ("quart", quart_installed),
    "quart, wrapped": ("quart", quart_wrapped),
    "django": ("django", django),
    "falcon": ("falcon", falcon),
    "blacksheep": ("blacksheep", blacksheep),
}


async def get(app: Any, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        return await client.get(path)


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [(record.getMessage(), record.exc_info) for record in caplog.records]
    return [text for text, exception_info in lines if exception_info or "Traceback" in text]


@pytest.mark.parametrize("way", WAYS)
async def test_a_raised_kind_is_sent_and_not_logged_as_a_crash(way: str, caplog: pytest.LogCaptureFixture) -> None:
    framework, prepare = WAYS[way]
    app = await prepare(HOSTS[framework]())
    with caplog.at_level(logging.INFO):
        client_error, server_error = await get(app, "/kind"), await get(app, "/kind-500")
        assert tracebacks(caplog) == []
        assert (await get(app, "/crash")).json()["error"]["code"] == "internal_error"
    assert (client_error.status_code, client_error.headers["x-kind"]) == (400, "1")
    assert client_error.json()["error"]["code"] == "model_not_found"
    assert (server_error.status_code, server_error.json()["error"]["code"]) == (500, "upstream_timeout")
    assert len(tracebacks(caplog)) == 1


async def test_a_kind_that_no_envelope_sends_is_still_logged(caplog: pytest.LogCaptureFixture) -> None:
    app = flexmw.install(HOSTS["quart"](), flexmw.Tagging())
    assert (await get(app, "/kind")).status_code == 500
    assert len(tracebacks(caplog)) == 1


async def test_the_handler_of_the_app_for_all_exceptions_still_gets_a_kind() -> None:
    app: Any = HOSTS["quart"]()

    @app.errorhandler(Exception)
    async def on_error(error: Exception) -> tuple[dict[str, str], int]:
        return {"detail": "The shop is closed."}, 400

    response = await get(flexmw.install(app), "/kind")
    assert response.json()["error"]["message"] == "The shop is closed."


@pytest.mark.parametrize("context", [(), ("the context of the request",)], ids=["Quart 0.22", "Quart 0.23"])
async def test_the_methods_of_quart_get_what_quart_gives_them(context: tuple[Any, ...]) -> None:
    """Quart 0.23 needs Python 3.13. Before it, the methods get no context."""
    from quart import Quart
    from werkzeug.exceptions import BadRequest

    class Shop(Quart):
        def log_exception(self, *arguments: Any) -> None:
            logged.append(arguments)

        async def handle_http_exception(self, *arguments: Any) -> Any:
            assert arguments[:-1] == context
            return arguments[-1]

    logged: list[tuple[Any, ...]] = []
    app: Any = flexmw.install(Shop("shop"))
    crash, malformed = ValueError("a crash"), BadRequest()
    app.log_exception(*context, (ValueError, crash, None))
    assert logged == [(*context, (ValueError, crash, None))]
    assert await app.handle_http_exception(*context, malformed) is malformed
