"""An MCP server with one tool: the handshake is answered well, the call of the tool meets a fault."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from flexmw.testing.hostile import Exchange, Fault, Response, fault

__all__ = ["McpServer"]

_INITIALIZED = {
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "tools", "version": "1"},
}


@dataclass(frozen=True)
class McpServer(Fault):
    """Answers the handshake well. Calls of the tool meet the faults of ``script`` in order, then ``then``."""

    script: list[str]
    then: str

    def run(self, exchange: Exchange) -> None:
        """Response the handshake; hand the call of the tool to the fault."""
        try:
            message: dict[str, Any] = exchange.request.json()
        except ValueError:  # the GET of the event stream, the DELETE of the session
            Response(405, executes=False).run(exchange)
            return
        method, number = message.get("method"), message.get("id")
        if method == "tools/call":
            result = {"content": [{"type": "text", "text": "5"}], "isError": False}
            name = self.script.pop(0) if self.script else self.then
            inner = fault(name) if name != "ok" else Response(body={"jsonrpc": "2.0", "id": number, "result": result})
            if not isinstance(inner, Fault):
                raise TypeError(f"{name!r} is no fault of a request")
            inner.run(exchange)
        elif number is None:
            Response(202, body=b"", executes=False).run(exchange)
        elif method == "initialize":
            version = message["params"]["protocolVersion"]
            self._reply(exchange, number, {"protocolVersion": version, **_INITIALIZED})
        elif method == "tools/list":
            tool = {"name": "add", "inputSchema": {"type": "object"}}
            self._reply(exchange, number, {"tools": [tool]})
        else:
            unknown = {"code": -32601, "message": "Method not found"}
            body = json.dumps({"jsonrpc": "2.0", "id": number, "error": unknown}).encode()
            Response(body=body, headers=(("Content-Type", "application/json"),), executes=False).run(exchange)

    @staticmethod
    def _reply(exchange: Exchange, number: int, result: dict[str, Any]) -> None:
        Response(body={"jsonrpc": "2.0", "id": number, "result": result}, executes=False).run(exchange)
