"""The identity of the running task of asyncio: what ``asyncio.current_task`` returns.

asyncio documents a pair of functions that change it, for task implementations of third parties (Extending asyncio,
task lifetime support). From Python 3.12 on it has one function that does both. Python 3.11 keeps the running tasks in a
dict, and the pair of functions checks and writes the dict, at four times the cost of a write.
"""

from __future__ import annotations

import asyncio.tasks
import sys
from typing import Any

__all__ = ["set_current_task", "swap_current_task"]

if sys.version_info >= (3, 12):
    swap_current_task = set_current_task = asyncio.tasks._swap_current_task
else:
    _current_tasks: dict[Any, Any] = vars(asyncio.tasks)["_current_tasks"]

    set_current_task = _current_tasks.__setitem__
    """Make a task the running one."""

    def swap_current_task(loop: asyncio.AbstractEventLoop, task: Any) -> Any:
        """Make a task the running one, and return the one that was."""
        current = _current_tasks[loop]
        _current_tasks[loop] = task
        return current
