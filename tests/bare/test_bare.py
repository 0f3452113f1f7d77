"""The wheel alone, without any extra: run in an environment that has nothing but flexmw's own dependencies."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from importlib.metadata import files
from pathlib import Path
from typing import Any

import pytest

import flexmw

EXTRAS = ("httpx", "httpx2", "redis", "opentelemetry.sdk", "rich", "uvicorn")


def absent(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is None
    except ModuleNotFoundError:
        return True


pytestmark = pytest.mark.skipif(not all(map(absent, EXTRAS)), reason="needs an environment without extras")


def call(app: Any, method: str = "GET", path: str = "/") -> tuple[int, dict[str, str], bytes]:
    """One request, without a server."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"", "client": ("::1", 1)}
    asyncio.run(app(scope, receive, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:])


async def not_found(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"nothing here"})


async def broken(scope: Any, receive: Any, send: Any) -> None:
    raise flexmw.SubsystemOffline("The playground", retry_after=5)


def test_the_wheel_is_what_is_tested() -> None:
    assert "site-packages" in str(Path(flexmw.__file__))
    names = {str(file) for file in files("flexmw") or ()}
    assert {"flexmw/py.typed", "flexmw/contract/table.py", "flexmw/testing/__init__.py"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "examples/"))]


def test_an_app_is_wrapped_without_any_extra() -> None:
    status, headers, body = call(flexmw.wrap_app(not_found))
    assert (status, json.loads(body)["error"]["type"]) == (404, "invalid_request_error")
    assert headers["x-request-id"]
    status, headers, body = call(flexmw.wrap_app(broken))
    assert (status, json.loads(body)["error"]["code"], headers["retry-after"]) == (503, "service_unavailable", "5")


def test_the_whole_server_stack_runs_in_memory() -> None:
    app = flexmw.wrap_app(
        not_found, flexmw.Tagging(), flexmw.Envelope(), flexmw.RateLimit("2/minute"), flexmw.Idempotency()
    )
    assert [call(app)[0] for _ in range(3)] == [404, 404, 429]


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_a_client_binding_says_which_extra_it_needs(name: str) -> None:
    with pytest.raises(ImportError, match=rf"flexmw\[{name}\]"):
        getattr(flexmw, name)


def test_a_storage_says_which_extra_it_needs() -> None:
    with pytest.raises(flexmw.ConfigError, match="redis"):
        flexmw.wrap_app(not_found, flexmw.RateLimit("1/minute", storage="redis://localhost:6379"))
