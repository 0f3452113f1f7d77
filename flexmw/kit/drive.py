"""Flow drivers: run a generator that yields effects, and perform each effect, sync or async.

The generator is the flow of a client's components (:mod:`flexmw.kit.chain`), or the flow of a store's commands.

>>> def flow():
...     return (yield "a") + (yield "b")
>>> drive(flow(), str.upper)
'AB'
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

__all__ = ["adrive", "drive"]

_E = TypeVar("_E")
_R = TypeVar("_R")


def drive(flow: Generator[_E, Any, _R], perform: Callable[[_E], object]) -> _R:
    """Run a flow in this thread, and return its result.

    An exception of ``perform`` is raised inside the flow, so that the flow can clean up. ``KeyboardInterrupt`` and
    cancellation are raised there too; a flow that catches ``Exception`` does not catch these two.

    :param perform: performs an effect, and returns its result.
    """
    send: Callable[[Any], _E] = flow.send
    resume = send
    value: Any = None
    while True:
        try:
            effect = resume(value)
        except StopIteration as done:
            result: _R = done.value
            return result
        try:
            value = perform(effect)
            resume = send
        except BaseException as error:
            resume, value = flow.throw, error


async def adrive(flow: Generator[_E, Any, _R], perform: Callable[[_E], Awaitable[object]]) -> _R:
    """Run a flow in this task: :func:`drive` with ``await``."""
    send: Callable[[Any], _E] = flow.send
    resume = send
    value: Any = None
    while True:
        try:
            effect = resume(value)
        except StopIteration as done:
            result: _R = done.value
            return result
        try:
            value = await perform(effect)
            resume = send
        except BaseException as error:
            resume, value = flow.throw, error
