"""The registry of the executions that run in this process, by generation.

Operators stop an execution through it, and a repetition in the same process finds that its key runs.
"""

from __future__ import annotations

import os
from typing import Final, Protocol

__all__ = ["RunningExecution", "add", "remove", "running_execution"]


class RunningExecution(Protocol):
    """An execution that can be stopped."""

    def stop(self) -> bool:
        """End the execution. Returns False where it cannot be ended from here."""
        ...


_executions: Final[dict[str, RunningExecution]] = {}


def add(generation: str, execution: RunningExecution) -> None:
    """Register an execution that begins."""
    _executions[generation] = execution


def remove(generation: str) -> None:
    """Remove an execution that is over."""
    _executions.pop(generation, None)


def running_execution(generation: str) -> RunningExecution | None:
    """The execution of a generation, if it runs in this process."""
    return _executions.get(generation)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_executions.clear)  # they go on in the parent alone
