"""The servers of the matrix: a table of context managers that serve one framework each."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.servers import Served, child_server, hypercorn_server, uvicorn_server
from tests.waiting import LONGEST_WAIT
from tests_hosts.apps import Host
from tests_hosts.lambda_server import lambda_server
from tests_hosts.work import Work
from tests_hosts.wrapped import wrapped

__all__ = ["SERVERS", "Server"]

Serve = Callable[[Any], AbstractContextManager[Served]]


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server.

    :param title: its name in the docs.
    :param distribution: its name on the package index.
    :param serve: serves an app in a thread of this process, which takes less time than a process does.
    :param command: the arguments of ``python -m`` that serve ``app`` of ``tests_hosts.served`` on the port.
    :param hosts: the only hosts that the matrix tries on this server; all of them where it is empty.
    :param http2: the client speaks HTTP/2 from its first byte.
    """

    title: str
    distribution: str
    serve: Serve | None = None
    command: Callable[[int], tuple[str, ...]]
    hosts: tuple[str, ...] = ()
    http2: bool = False

    @contextmanager
    def run(self, name: str, host: Host, folder: Path, *, bare: bool = False) -> Generator[str]:
        """Serve one framework, and yield its URL.

        :param name: the name of the framework in ``HOSTS``.
        :param folder: an empty folder, for marks and for the log of a process.
        :param bare: serve the framework without the components.
        :raises RuntimeError: the app's startup fails on this server.
        """
        if self.serve is not None and not host.own_process:
            app = host.make(Work(folder))
            with self.serve(app if bare else wrapped(host, app)) as served:
                yield served.url
            return
        environment = {"FLEXMW_HOST": name, "FLEXMW_FOLDER": str(folder), "FLEXMW_BARE": "1" if bare else ""}
        command = self.command
        with child_server(
            lambda port: [sys.executable, "-m", *command(port)], folder, environment={**os.environ, **environment}
        ) as child:
            try:
                yield child.url
            finally:
                child.process.terminate()
                child.process.wait(LONGEST_WAIT)


@contextmanager
def hypercorn_trio_server(app: Any) -> Generator[Served]:
    """Hypercorn on trio, in a thread.

    :raises RuntimeError: the app's startup fails.
    """
    import trio
    from hypercorn.config import Config
    from hypercorn.trio import serve

    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.graceful_timeout = 1.0
    config.accesslog = config.errorlog = None
    urls: list[str] = []
    leave: list[Callable[[], object]] = []
    failures: list[BaseException] = []
    up = threading.Event()

    async def main() -> None:
        leaving, token = trio.Event(), trio.lowlevel.current_trio_token()
        leave.append(lambda: token.run_sync_soon(leaving.set))
        async with trio.open_nursery() as nursery:
            urls.extend(
                await nursery.start(lambda **status: serve(app, config, shutdown_trigger=leaving.wait, **status))
            )
            up.set()

    def body() -> None:
        try:
            trio.run(main)
        except BaseException as error:  # the test must not wait for a server that has ended
            failures.append(error)
        finally:
            up.set()

    thread = threading.Thread(target=body, name="test-hypercorn-trio", daemon=True)
    thread.start()
    assert up.wait(LONGEST_WAIT), "hypercorn did not start"
    if not urls:
        raise RuntimeError("hypercorn did not start") from (failures[0] if failures else None)
    try:
        yield Served(urls[0], int(urls[0].rsplit(":", 1)[1]))
    finally:
        leave[0]()
        thread.join(LONGEST_WAIT)
    assert not thread.is_alive(), "hypercorn did not stop"


def _uvicorn(port: int, http: str) -> tuple[str, ...]:
    return (
        "uvicorn",
        "--port",
        str(port),
        "--http",
        http,
        "--no-access-log",
        "--timeout-graceful-shutdown",
        "1",
        "tests_hosts.served:app",
    )


def _hypercorn(port: int, worker: str = "asyncio") -> tuple[str, ...]:
    return ("hypercorn", "--bind", f"127.0.0.1:{port}", "--worker-class", worker, "tests_hosts.served:app")


def _granian(port: int) -> tuple[str, ...]:
    options = ("--interface", "asgi", "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning")
    return ("granian", *options, "--workers-kill-timeout", "60", "tests_hosts.served:app")


def _gunicorn(port: int) -> tuple[str, ...]:
    options = ("-k", "asgi", "-b", f"127.0.0.1:{port}", "--log-level", "warning", "--graceful-timeout", "60")
    return ("gunicorn", *options, "--no-control-socket", "tests_hosts.served:app")


def _daphne(port: int) -> tuple[str, ...]:
    return ("daphne", "-b", "127.0.0.1", "-p", str(port), "-v", "0", "tests_hosts.served:app")


SERVERS: Final = {
    "h11": Server(
        title="uvicorn, h11",
        distribution="uvicorn",
        serve=lambda app: uvicorn_server(app, http="h11"),
        command=lambda port: _uvicorn(port, "h11"),
    ),
    "httptools": Server(
        title="uvicorn, httptools",
        distribution="uvicorn",
        serve=lambda app: uvicorn_server(app, http="httptools"),
        command=lambda port: _uvicorn(port, "httptools"),
    ),
    "hypercorn": Server(
        title="hypercorn, asyncio", distribution="hypercorn", serve=hypercorn_server, command=_hypercorn
    ),
    "trio": Server(
        title="hypercorn, trio",
        distribution="hypercorn",
        serve=hypercorn_trio_server,
        command=lambda port: _hypercorn(port, "trio"),
    ),
    "http2": Server(
        title="hypercorn, HTTP/2", distribution="hypercorn", serve=hypercorn_server, command=_hypercorn, http2=True
    ),
    "granian": Server(title="granian", distribution="granian", command=_granian),
    "gunicorn": Server(title="gunicorn, worker `asgi`", distribution="gunicorn", command=_gunicorn),
    "daphne": Server(title="daphne", distribution="daphne", command=_daphne, hosts=("django",)),
    "lambda": Server(
        title="Mangum",
        distribution="mangum",
        serve=lambda_server,
        command=lambda port: ("tests_hosts.lambda_server", str(port)),
    ),
}
"""By the name that the tests use."""
