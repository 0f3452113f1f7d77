"""The identity of the running task of asyncio: what ``asyncio.current_task`` returns.

asyncio documents a pair of functions that change it, for task implementations of third parties (Extending asyncio,
task lifetime support). From Python 3.12 on it has one function that does both. Python 3.11 keeps the running tasks in a
dict, and the pair of functions checks and writes the dict, at four times the cost of a write.
"""

from __future__ import annotations

import asyncio.tasks
import sys
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["run_as", "set_current_task"]

T = TypeVar("T")
V = TypeVar("V")

if sys.version_info >= (3, 12):
    set_current_task = asyncio.tasks._swap_current_task

    def run_as(task: Any, loop: asyncio.AbstractEventLoop, function: Callable[[V], T], value: V) -> T:
        """Call a function while ``task`` is the running task."""
        caller = set_current_task(loop, task)
        try:
            return function(value)
        finally:
            set_current_task(loop, caller)
else:
    _current_tasks: dict[Any, Any] = vars(asyncio.tasks)["_current_tasks"]

    set_current_task = _current_tasks.__setitem__
    """Make a task the running one."""

    def run_as(task: Any, loop: asyncio.AbstractEventLoop, function: Callable[[V], T], value: V) -> T:
        """Call a function while ``task`` is the running task."""
        tasks = _current_tasks
        caller, tasks[loop] = tasks[loop], task
        try:
            return function(value)
        finally:
            tasks[loop] = caller
