"""An MCP server with two tools, and the routes as its custom routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.server.mcpserver import MCPServer

import flexmw
from tests_hosts.apps.starlette_app import endpoints
from tests_hosts.work import Work

__all__ = ["make"]


def make(work: Work) -> Any:
    """Return a new app."""
    server = MCPServer("matrix")

    @server.tool()
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @server.tool()
    def fail() -> str:
        """Fails."""
        raise flexmw.InsufficientCredit()

    for path, (method, endpoint) in endpoints(work).items():
        server.custom_route(path, methods=[method])(endpoint)
    app = server.streamable_http_app()
    sessions = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Any]:
        async with sessions(app) as state:
            work.started()
            yield state
            work.stopped()

    app.router.lifespan_context = lifespan
    return app
