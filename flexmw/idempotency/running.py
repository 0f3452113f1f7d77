"""The registry of the executions that run in this process, by generation.

Operators stop an execution through it, and a repetition in the same process finds that its key runs.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any, Final, Protocol

__all__ = ["HasLoop", "RunningExecution", "add", "cut_off", "left_of", "remove", "running_execution"]


class HasLoop(Protocol):
    """What knows an event loop."""

    @property
    def has_running_loop(self) -> bool:
        """Whether the event loop runs."""
        ...


class RunningExecution(Protocol):
    """An execution that can be stopped."""

    @property
    def side_tasks(self) -> HasLoop:
        """What runs beside its app, in the event loop of the app."""
        ...

    def stop(self) -> bool:
        """End the execution. Returns False where it cannot be ended from here."""
        ...

    def cut_off(self, app: Any) -> bool:
        """Cancel the execution, if it runs ``app`` in the running event loop. Returns whether it was cancelled."""
        ...


_executions: Final[dict[str, RunningExecution]] = {}


def add(generation: str, execution: RunningExecution) -> None:
    """Register an execution that begins."""
    _executions[generation] = execution


def remove(generation: str) -> None:
    """Remove an execution that is over."""
    _executions.pop(generation, None)


def running_execution(generation: str) -> RunningExecution | None:
    """The execution of a generation, if it runs in this process, in an event loop that runs.

    An event loop that was stopped, or closed without cancelling its tasks, leaves its executions in the registry.
    """
    execution = _executions.get(generation)
    return execution if execution is not None and execution.side_tasks.has_running_loop else None


def cut_off(app: Any) -> list[str]:
    """Cancel all executions that run an app in the running event loop. Returns their generations."""
    return [generation for generation, execution in tuple(_executions.items()) if execution.cut_off(app)]


def left_of(generations: Collection[str]) -> list[str]:
    """The generations among these whose executions are not over."""
    return [generation for generation in generations if generation in _executions]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_executions.clear)  # they go on in the parent alone
