#!/usr/bin/env bash
# FastMCP's RetryMiddleware executes a tool again that says it must not be.
# Expected: a tool with idempotentHint: false (MCP's tool annotations) whose call times out is executed once.
# Seen: four times: the middleware looks at the type of the error only, and a timeout is in its default list. A card is
# charged four times for one call, and the client gets the last error.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'fastmcp==4.1.7'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import logging
from importlib.metadata import version

from fastmcp import Client, FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.server.middleware.error_handling import RetryMiddleware

logging.disable(logging.CRITICAL)
server = FastMCP("shop")
server.add_middleware(RetryMiddleware(base_delay=0.01))
executed = []


@server.tool(annotations={"readOnlyHint": False, "idempotentHint": False, "destructiveHint": True})
async def charge(cents: int) -> str:
    executed.append(cents)
    raise TimeoutError("no response of the bank")


async def main():
    async with Client(server) as client:
        [tool] = await client.list_tools()
        try:
            await client.call_tool("charge", {"cents": 500})
        except ToolError as error:
            return tool.annotations, error


annotations, error = asyncio.run(main())
print(f"fastmcp {version('fastmcp')}: {annotations}")
print(f"charged {len(executed)} times, {error}")
raise SystemExit(0 if len(executed) == 4 else "changed: a tool that is not idempotent is executed once")
PYTHON
