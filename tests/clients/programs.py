"""Run a program of ``docs/clients.md`` against a server with a fault, and say what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import flexmw
from flexmw.instrument import FlexmwInstrumentor
from flexmw.testing import HostileServer
from tests.recipes import files_of
from tests_sdks.mcp_server import McpServer

__all__ = ["PROGRAMS", "Run", "run_program"]

PROGRAMS: Final = files_of(Path(__file__).parents[2] / "docs" / "clients.md")
_URL: Final = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class Run:
    """What the server counted and the program raised. ``outcome`` is that of ``flexmw.outcome_of``."""

    executions: int
    requests: int
    error: BaseException | None

    @property
    def outcome(self) -> str | None:
        """What Retry says of the error."""
        outcome = None if self.error is None else flexmw.outcome_of(self.error)
        return None if outcome is None else outcome.outcome


def run_program(name: str, *, script: tuple[str, ...] = (), then: str = "ok") -> Run:
    """Run a program, with the server's URL in place of the one that it names.

    :param name: the file of the program.
    :param script: the first responses to its POST, by name.
    :param then: every further response.
    """
    program = PROGRAMS[name]
    error: BaseException | None = None
    server_then: Any = McpServer(list(script), then) if name == "mcp_client.py" else then
    with HostileServer(() if name == "mcp_client.py" else script, then=server_then) as server:
        try:
            exec(compile(program.replace(_URL, server.url), name, "exec"), {"__name__": "__main__"})
        except Exception as caught:
            error = caught
            while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
                error = error.exceptions[0]
        finally:
            if "FlexmwInstrumentor" in program:
                FlexmwInstrumentor().uninstrument()
        return Run(server.executions, len(server.requests), error)
