"""The number of processes that serve the app, for components that keep their state in memory.

No server writes the number in the scope. A server keeps it in an object on the call stack while it imports the app:
``Server.config`` of uvicorn, ``Worker.cfg`` of gunicorn, ``config`` of hypercorn, the server of granian. Otherwise
``WEB_CONCURRENCY`` counts, which uvicorn and gunicorn read. Other machines and containers cannot be seen.
"""

from __future__ import annotations

import logging
import os
import sys
from operator import itemgetter
from types import FrameType
from typing import Any, Final, NamedTuple

__all__ = ["Workers", "warn_about_memory", "workers"]

_SERVERS: Final = ("uvicorn", "gunicorn", "hypercorn", "granian")
_VARIABLE: Final = "WEB_CONCURRENCY"
_warned: Final[set[str]] = set()


class Workers(NamedTuple):
    """The processes of a server.

    :param number: the number of processes.
    :param source: the source of the number: the name of the server, or the environment variable.
    """

    number: int
    source: str


def workers() -> Workers | None:
    """The processes of the server that has called this code; ``None`` if no source names more than one."""
    frame: FrameType | None = sys._getframe(1)
    declared: list[Workers] = []
    while frame is not None:
        found = _declared(frame)
        if found is not None:
            declared.append(found)
        frame = frame.f_back
    if declared:  # gunicorn runs a server of uvicorn in each of its processes: the larger number is that of gunicorn
        most = max(declared, key=itemgetter(0))
        return most if most.number > 1 else None
    count = os.environ.get(_VARIABLE, "")
    return Workers(int(count), _VARIABLE) if count.isdecimal() and int(count) > 1 else None


def warn_about_memory(component: str, effect: str, logger: logging.Logger) -> None:
    """Log once in this process that each of several processes has a state of its own.

    :param component: the name of the component's class.
    :param effect: what happens, with ``{count}`` for the number of processes.
    """
    if component in _warned or (found := workers()) is None:
        return
    _warned.add(component)
    logger.warning(
        "%s(storage='memory://') belongs to one process, and there are %d of them (%s): %s. Give a store that all "
        "processes share, such as storage='redis://localhost:6379'. This is logged once.",
        component,
        found.number,
        found.source,
        effect.format(count=found.number),
    )


def _declared(frame: FrameType) -> Workers | None:
    """The processes that the server in this frame has declared."""
    module = frame.f_globals.get("__name__")
    if not isinstance(module, str) or module.partition(".")[0] not in _SERVERS:
        return None
    names = frame.f_locals
    owner: Any = names.get("self")
    for holder in (getattr(owner, "cfg", None), getattr(owner, "config", None), names.get("config"), owner):
        count = getattr(holder, "workers", None)
        if isinstance(count, int) and not isinstance(count, bool):
            return Workers(count, module.partition(".")[0])
    return None
