"""The identity of the running task of asyncio: what ``asyncio.current_task`` returns.

asyncio documents functions that change it, for task implementations of third parties (Extending asyncio, task lifetime
support): a pair of them, and from Python 3.12 on one that does both. Up to Python 3.13 asyncio keeps the running tasks
in a dict, and a write to the dict takes a fraction of the time of a call.
"""

from __future__ import annotations

import asyncio.tasks
import sys
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias

__all__ = ["running_task", "running_tasks"]


_RunningTask: TypeAlias = Callable[[asyncio.AbstractEventLoop], "asyncio.Task[Any] | None"]


class _RunningTasks(Protocol):
    def __getitem__(self, loop: asyncio.AbstractEventLoop, /) -> Any: ...
    def __setitem__(self, loop: asyncio.AbstractEventLoop, task: Any, /) -> None: ...


if sys.version_info >= (3, 14):

    class _Swapped:
        """The running tasks of the event loops of this thread."""

        __getitem__ = staticmethod(asyncio.tasks.current_task)
        __setitem__ = staticmethod(asyncio.tasks._swap_current_task)

    running_tasks: Final[_RunningTasks] = _Swapped()
    running_task: Final[_RunningTask] = asyncio.tasks.current_task
else:
    running_tasks: Final[_RunningTasks] = vars(asyncio.tasks)["_current_tasks"]
    running_task: Final[_RunningTask] = vars(asyncio.tasks)["_current_tasks"].get
"""The running task of each event loop. Code that writes another task into the mapping writes the first task back.

``running_task`` is ``asyncio.current_task`` of an event loop, a function in C in each version of Python."""
