"""Locks in a process that forks while another thread holds them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import flexmw
from flexmw.kit.forked import fork_safe
from flexmw.testing import play
from tests.waiting import LONGEST_WAIT

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

PACKAGE = Path(flexmw.__file__).parent
PLUGINS = PACKAGE.parent / "plugins"
KEPT_BY_THEIR_OWNERS = {"kit/forked.py", "idempotency/stores/batch_thread.py", "idempotency/stores/sqlite_file.py"}
"""Modules that take care of their locks in ``before_fork`` and ``after_fork``, and the one that says how."""


@contextmanager
def held(*locks: Any) -> Generator[None]:
    """Another thread holds the locks."""
    holds, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        for lock in locks:
            lock.acquire()
        holds.set()
        may_end.wait()
        for lock in locks:
            lock.release()

    thread = threading.Thread(target=hold)
    thread.start()
    holds.wait()
    try:
        yield
    finally:
        may_end.set()
        thread.join()


def exit_code_of(work: Callable[[], object]) -> int:
    """The exit code of a forked child that does the work; below 0 where it does not end. What it raises is printed."""
    child = os.fork()
    if child == 0:
        signal.alarm(int(LONGEST_WAIT))
        try:
            work()
            os._exit(0)
        except BaseException:
            os.write(2, traceback.format_exc().encode())
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("kind", [threading.Lock, threading.RLock])
def test_a_lock_that_another_thread_holds_is_free_in_a_forked_child(kind: Callable[[], Any]) -> None:
    lock = fork_safe(kind())
    with held(lock):
        assert exit_code_of(lock.acquire) == 0
        assert not lock.acquire(blocking=False)
    assert lock.acquire(blocking=False)


def test_a_lock_of_tasks_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a lock of threading"):
        fork_safe(asyncio.Lock())


def test_a_wrapped_client_works_in_a_child_of_a_program_with_threads() -> None:
    policy = flexmw.Retry(auto_key=True, key_origins=("http://api.test",))
    request = httpx.Request("POST", "http://api.test/jobs", headers={"x-stainless-retry-count": "0"}, json={})
    with held(policy._memory._lock, policy._budget._lock):
        assert exit_code_of(lambda: play(policy, [httpx.ReadError("lost"), 200], request)) == 0


def bare_locks(folder: Path) -> set[str]:
    """The modules in a folder with locks that are not free in a forked child."""
    bare = re.compile(
        r"(?<!fork_safe\()(?<!\w)(?<!anyio\.)(?<!asyncio\.)(?:threading\.)?(?:R?Lock|Condition|Semaphore)\(\)"
        r"|default_factory=(?:threading\.)?(?:R?Lock|Condition|Semaphore)\b"
    )
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*.py")
        if not {"testing", "tests", ".venv", "build"} & {*path.parts} and bare.search(path.read_text("utf-8"))
    }


def test_every_lock_of_the_package_is_free_in_a_forked_child() -> None:
    assert bare_locks(PACKAGE) <= KEPT_BY_THEIR_OWNERS


def test_every_lock_of_the_plugins_is_free_in_a_forked_child() -> None:
    assert any(PLUGINS.rglob("*.py"))
    assert bare_locks(PLUGINS) == set()
