"""An MCP server: its own clients go on working, and only what is no JSON-RPC becomes the envelope."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest

import flexmw
from flexmw.contract import ErrorBody
from tests.servers import uvicorn_server
from tests.waiting import LONGEST_WAIT

pytest.importorskip("mcp")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

HEADERS = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("tools")

    @server.tool()
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @server.tool()
    def fail() -> str:
        """Fails."""
        raise flexmw.InsufficientCredit()

    with uvicorn_server(flexmw.Envelope().asgi(server.streamable_http_app())) as served:
        yield served.url


def test_the_real_client_calls_tools_and_sees_their_failures(url: str) -> None:
    from mcp import Client

    async def run() -> tuple[Any, Any]:
        async with Client(f"{url}/mcp") as client:
            return await client.call_tool("add", {"a": 2, "b": 3}), await client.call_tool("fail", {})

    good, bad = anyio.run(run)
    assert good.content[0].text == "5"
    assert bad.is_error


@pytest.mark.parametrize(
    ("method", "content", "status"),
    [("POST", b"{", 400), ("POST", b'{"jsonrpc":"2.0","id":1,"method":"none"}', 400), ("PUT", None, 405)],
)
def test_json_rpc_errors_pass(url: str, method: str, content: bytes | None, status: int) -> None:
    answer = httpx.request(method, f"{url}/mcp", content=content, headers=HEADERS, timeout=LONGEST_WAIT)
    assert answer.status_code == status
    assert answer.json()["jsonrpc"] == "2.0"
    assert answer.headers["x-request-id"]


def test_an_unknown_route_is_enveloped(url: str) -> None:
    answer = httpx.get(f"{url}/nowhere", timeout=LONGEST_WAIT)
    error = ErrorBody.decode(answer.content)
    assert error is not None
    assert (answer.status_code, error.code) == (404, "unknown_url")
