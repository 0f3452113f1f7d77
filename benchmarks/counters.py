"""Count what a request asks of its store and of the interpreter: commands, commits, tasks, threads.

None of these counts depends on the load of the machine.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from unittest.mock import patch

import redis

__all__ = ["Commits", "Counts", "counted_commits", "counting_requests"]

_WRITES: Final = ("INSERT", "UPDATE", "DELETE", "REPLACE")
_CONNECTING: Final = ("AUTH", "CLIENT", "HELLO", "SELECT")
_END: Final = "flexmw:benchmark:end"


@dataclass
class Counts:
    """What a number of requests did together.

    :param commands: commands that reached redis, without those of scripts and of new connections; ``None`` without one.
    :param commits: durable commits of sqlite, each of which syncs the file; ``None`` where they are not counted.
    :param tasks: tasks that the event loop started.
    :param threads: results that came to the event loop from another thread.
    """

    commands: int | None = None
    commits: int | None = None
    tasks: int = 0
    threads: int = 0


class Commits:
    """The durable commits of all sqlite connections that are opened while it counts."""

    def __init__(self) -> None:
        self.number = 0
        self.on_statement: Callable[[str], object] | None = None

    def connect(self, *arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = _connect(*arguments, **options)
        is_open = has_written = False
        is_durable = True

        def trace(statement: str) -> None:
            nonlocal is_open, has_written, is_durable
            if self.on_statement is not None:
                self.on_statement(statement)
            words = statement.upper().split()
            word = words[0] if words else ""
            if word == "BEGIN":
                is_open, has_written = True, False
            elif word in _WRITES:
                has_written = True
                if not is_open:
                    self.number += is_durable
            elif word in ("COMMIT", "END"):
                self.number += is_open and has_written and is_durable
                is_open = has_written = False
            elif word == "ROLLBACK":
                is_open = has_written = False
            elif words[:2] == ["PRAGMA", "SYNCHRONOUS"]:
                is_durable = words[-1] in ("FULL", "EXTRA", "2", "3")

        connection.set_trace_callback(trace)
        return connection


_connect = sqlite3.connect


@contextmanager
def counted_commits() -> Generator[Commits]:
    """Count the commits of connections that are opened inside: an app must be built and first used here."""
    commits = Commits()
    with patch("sqlite3.connect", commits.connect):
        yield commits


@contextmanager
def counting_requests(url: str | None = None, commits: Commits | None = None) -> Generator[Counts]:
    """Count what the running event loop and the store do inside.

    :param url: the redis whose commands are counted.
    :param commits: what :func:`counted_commits` entered.
    """
    counts, loop = Counts(), asyncio.get_running_loop()
    threadsafe = loop.call_soon_threadsafe

    def factory(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        counts.tasks += 1
        return asyncio.Task(coroutine, loop=loop, **options)

    def from_thread(callback: Any, *arguments: Any, context: Any = None) -> Any:
        counts.threads += 1
        return threadsafe(callback, *arguments, context=context)

    committed = commits.number if commits else 0
    with ExitStack() as stack:
        if url is not None:
            client = stack.enter_context(redis.Redis.from_url(url))
            monitor = stack.enter_context(client.monitor())
        before = loop.get_task_factory()
        loop.set_task_factory(factory)
        loop.call_soon_threadsafe = from_thread  # type: ignore[method-assign]
        try:
            yield counts
        finally:
            loop.set_task_factory(before)
            del loop.call_soon_threadsafe
        if url is not None:
            client.execute_command("GET", _END)
            counts.commands = 0
            for entry in monitor.listen():
                if entry["command"] == f"GET {_END}":
                    break
                word = entry["command"].partition(" ")[0].upper()
                counts.commands += entry["client_type"] != "lua" and word not in _CONNECTING
        if commits is not None:
            counts.commits = commits.number - committed
