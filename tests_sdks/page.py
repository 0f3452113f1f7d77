"""Print ``docs/sdks.md`` by running every SDK under every fault: ``python -m tests_sdks.page > docs/sdks.md``."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import flexmw
from flexmw.testing import HostileServer
from tests_sdks.calls import ASYNC, BLOCKING
from tests_sdks.mcp_server import McpServer

__all__ = ["FAULTS", "Fault", "Result", "page", "run"]


@dataclass(frozen=True)
class Fault:
    """``script`` are the first responses by name, ``then`` every further one."""

    title: str
    script: tuple[str, ...] = ()
    then: str = "ok"
    stream: bool = False
    recovers: bool = False


FAULTS: Final = {
    "lost": Fault("response lost (reset)", then="rst"),
    "500": Fault("500", then="500"),
    "429": Fault("429 that names a wait", script=("429:ms=0.05",), recovers=True),
    "529": Fault("529 that names a wait", script=("529:ms=0.05",), recovers=True),
    "cut": Fault("stream cut in its middle", then="cut-chunk", stream=True),
}


@dataclass(frozen=True)
class Result:
    """What the server counted and the caller saw. ``outcome`` is that of ``flexmw.outcome_of``."""

    executions: int
    requests: int
    error: str | None
    outcome: str | None

    def __str__(self) -> str:
        seen = "answered" if self.error is None else f"`{self.error}`"
        outcome = "" if self.outcome is None else f", {self.outcome}"
        return f"{self.executions}: {seen}{outcome}"


def run(side: str, name: str, fault: str) -> Result:
    """Make one call of an SDK against a server with one fault."""
    plan = FAULTS[fault]
    mcp = McpServer(list(plan.script), plan.then)
    with HostileServer(then=mcp) if name == "mcp" else HostileServer(plan.script, then=plan.then) as server:
        error: Exception | None = None
        try:
            if side == "blocking":
                BLOCKING[name](server.url, plan.stream)
            else:
                asyncio.run(_await(name, server.url, plan.stream))
        except Exception as caught:
            error = caught
            while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
                error = error.exceptions[0]
        outcome = None if error is None else flexmw.outcome_of(error)
        return Result(
            server.executions,
            len(server.requests),
            None if error is None else type(error).__name__,
            None if outcome is None else outcome.outcome,
        )


async def _await(name: str, url: str, stream: bool) -> None:
    await ASYNC[name](url, stream)


_INTRODUCTION: Final = """# SDKs over a wrapped client

What a caller of each SDK gets when a response is lost, refused or cut, and how often the server has done the work.
Each SDK has a wrapped client, by the line in [Inside an SDK](retry.md#inside-an-sdk), and sends one POST to a server
with one fault.

A cell has three parts. The number says how often the server **executed** the POST. Then comes what the caller got:
*answered*, or the class of the error. The last word is what `flexmw.outcome_of(error)` says: *ambiguous* means that
the POST may have been executed. This page is written by a run: `tox run -e sdks` compares it.
"""

_END: Final = """
Where an SDK's error keeps neither the response nor a cause, `outcome_of` finds the outcome in the frame that raised it.
"""


def page(results: Mapping[tuple[str, str, str], Result]) -> str:
    """Return the page as Markdown."""
    return "\n".join((_INTRODUCTION, *_rows("blocking", results), "", *_rows("async", results), _END))


def _rows(side: str, results: Mapping[tuple[str, str, str], Result]) -> Iterator[str]:
    yield f"| {side} | " + " | ".join(fault.title for fault in FAULTS.values()) + " |"
    yield "|---" * (len(FAULTS) + 1) + "|"
    for name in BLOCKING if side == "blocking" else ASYNC:
        yield f"| {name} | " + " | ".join(str(results[side, name, fault]) for fault in FAULTS) + " |"


if __name__ == "__main__":
    logging.disable()
    measured = {
        (side, name, fault): run(side, name, fault)
        for side, calls in (("blocking", BLOCKING), ("async", ASYNC))
        for name in calls
        for fault in FAULTS
    }
    sys.stdout.write(page(measured))
