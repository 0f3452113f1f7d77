"""Objects with threads, locks or connections in a process that forks.

Only the thread that forks goes on in the child. A lock that another thread holds at this moment stays locked in the
child, and the work of that thread stays half done. :func:`prepare_forks` lets an object finish its work before the
fork, and begin anew in the child before any other code runs there.

>>> class Pool:
...     def before_fork(self) -> None: ...
...     def after_fork(self, *, is_child: bool) -> None:
...         self.connections = []
>>> pool = Pool()
>>> prepare_forks(pool)
"""

from __future__ import annotations

import os
from typing import Any, Final, Protocol, TypeVar
from weakref import WeakSet

__all__ = ["Forked", "fork_safe", "prepare_forks"]

AnyLock = TypeVar("AnyLock")


class Forked(Protocol):
    """An object that takes care of itself when its process forks."""

    def before_fork(self) -> None:
        """Wait until no other thread is at work, and keep the others from beginning. Must end in bounded time."""
        ...

    def after_fork(self, *, is_child: bool) -> None:
        """Let the other threads go on in the parent. Replace locks, threads and connections in the child."""
        ...


_objects: Final[WeakSet[Forked]] = WeakSet()
_prepared: Final[list[Forked]] = []
"""The objects between the two calls. A list, so that none is collected in between."""


_locks: Final[WeakSet[Any]] = WeakSet()


def fork_safe(lock: AnyLock) -> AnyLock:
    """Let a lock of :mod:`threading` be free in each forked child, and return the lock.

    A child whose parent forks while another thread holds the lock would wait for it for ever. What the lock protects
    may be between two steps in the child, so a fork-safe lock is for state of which each step leaves a usable one. The
    lock is not kept alive. The standard library frees the locks of its loggers in the same way.

    :raises TypeError: another kind of lock, such as one of asyncio, which belongs to tasks and not to threads.
    """
    if not hasattr(lock, "_at_fork_reinit"):
        raise TypeError(f"fork_safe() = {lock!r}: expected a lock of threading")
    _locks.add(lock)
    return lock


def prepare_forks(forked: Forked) -> None:
    """Call the methods of ``forked`` around each fork from now on. The object is not kept alive."""
    _objects.add(forked)


def _before() -> None:
    _prepared[:] = list(_objects)
    for forked in _prepared:
        forked.before_fork()


def _after_in_parent() -> None:
    for forked in _prepared:
        forked.after_fork(is_child=False)
    _prepared.clear()


def _after_in_child() -> None:
    for lock in list(_locks):
        lock._at_fork_reinit()
    for forked in _prepared:
        forked.after_fork(is_child=True)
    _prepared.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
