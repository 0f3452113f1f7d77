"""Starting servers and stopping them: here, in a thread, or in a child process that never outlives its parent."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import uvicorn
from starlette.types import ASGIApp

__all__ = ["START_SECONDS", "Server", "bind", "child", "in_thread", "port_number", "until_stdin_closes"]

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0
"""Longest time for a server to start, or to respond to a request about its state."""

STOP_SECONDS = 10.0


class Server(uvicorn.Server):
    """uvicorn on a bound socket; it calls `ready` with its URL once it responds."""

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        *,
        ready: Callable[[str], object],
        http: type[asyncio.Protocol] | Literal["auto"] = "auto",
    ) -> None:
        quiet: dict[str, Any] = {"log_config": None, "log_level": "warning", "access_log": False}
        super().__init__(uvicorn.Config(app, http=http, timeout_graceful_shutdown=5, **quiet))
        self.listener, self.ready = listener, ready

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        with self.listener, suppress(KeyboardInterrupt):  # uvicorn raises a Ctrl-C again when it has shut down
            super().run(sockets or [self.listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.listener.getsockname()
            self.ready(f"http://{host}:{port}")


def bind(port: int) -> socket.socket:
    """A listening socket on the loopback address. Raises OSError when another program has the port."""
    return socket.create_server(("127.0.0.1", port), backlog=2048)


def port_number(text: str) -> int:
    """For argparse: a port, or the reason why `text` is none."""
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: expected a number from 0 to 65535")
    return int(text)


def until_stdin_closes(server: Server) -> None:
    """Stop `server` when standard input ends: a parent holds the other end, so it ends with the parent's life."""

    def watch() -> None:
        sys.stdin.buffer.read()
        server.should_exit = True

    Thread(target=watch, daemon=True).start()


@contextmanager
def child(module: str, *arguments: str) -> Generator[str]:
    """`python -m module --child` for as long as the block runs. Gives the URL that ends the child's first line."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-m", module, "--child", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,  # Ctrl-C in a terminal is for the parent, which then closes the pipe
        text=True,
    )
    with process:  # closes the pipes and waits on leaving
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"{module} ended before it was ready; its own words are above")
            yield line.split()[-1]
        finally:
            process.stdin.close()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def in_thread(app: ASGIApp) -> Generator[str]:
    """Serve `app` from a thread of this process for as long as the block runs. Gives its URL."""
    ready: Future[str] = Future()
    server = Server(app, bind(0), ready=ready.set_result)

    def serve() -> None:
        try:
            server.run()
            raise RuntimeError("the server stopped before it was ready")
        except BaseException as exc:  # SystemExit is how uvicorn reports a failed start
            if not ready.done():
                ready.set_exception(exc)

    thread = Thread(target=serve, name="server", daemon=True)
    thread.start()
    try:
        yield ready.result(START_SECONDS)
    finally:
        server.should_exit = True
        thread.join(STOP_SECONDS)
    if thread.is_alive():
        raise RuntimeError(f"the server did not stop within {STOP_SECONDS:g} seconds")
