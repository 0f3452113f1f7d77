"""What tests of stores need: requests over a redis, a proxy whose target moves, a TLS front, and a Sentinel."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import flexmw
from flexmw.testing.hostile.ports import HOST, Port
from tests.servers import Child, redis_binary, skip_unless
from tests.waiting import LONGEST_WAIT, eventually

__all__ = [
    "COMPONENTS",
    "Moving",
    "client_of",
    "cluster_of_one",
    "counting_app",
    "cut_reply",
    "front",
    "sentinel_of",
    "wrong_way",
]

COMPONENTS: dict[str, Callable[..., Any]] = {
    "RateLimit": lambda storage, **options: flexmw.RateLimit("9/minute", storage=storage, **options).asgi(None),  # type: ignore[arg-type]
    "Idempotency": lambda storage, **options: flexmw.Idempotency(storage=storage, **options).asgi(None),  # type: ignore[arg-type]
    "Pace": lambda storage, **options: flexmw.Pace(storage=storage),
}
"""Opens the store of each component that has one."""


def counting_app() -> tuple[Starlette, list[str]]:
    """An app, and the keys of the requests that it has carried out."""
    runs: list[str] = []

    async def run(request: Request) -> JSONResponse:
        runs.append(request.headers.get("idempotency-key", ""))
        return JSONResponse({"run": len(runs)})

    return Starlette(routes=[Route("/", run, methods=["POST"])]), runs


def client_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app")


class Moving:
    """An address that leads to one server after the other, like the name of a managed primary. Connections that are
    open keep their server."""

    def __init__(self, target: int, context: ssl.SSLContext | None = None) -> None:
        self.target = target
        self._context = context
        self._listener = socket.create_server((HOST, 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                incoming, _ = self._listener.accept()
            except OSError:
                return
            if self._context is not None:
                incoming.settimeout(LONGEST_WAIT)
                try:
                    incoming = self._context.wrap_socket(incoming, server_side=True)
                except OSError:
                    incoming.close()
                    continue
                incoming.settimeout(None)
            try:
                outgoing = socket.create_connection((HOST, self.target))
            except OSError:
                incoming.close()
                continue
            self._sockets += incoming, outgoing
            for one, other in ((incoming, outgoing), (outgoing, incoming)):
                thread = threading.Thread(target=_pipe, args=(one, other))
                self._threads.append(thread)
                thread.start()

    def cut(self) -> None:
        """End the connections that are open."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(LONGEST_WAIT)
        self.cut()
        for thread in self._threads[1:]:
            thread.join(LONGEST_WAIT)
        for each in self._sockets:
            each.close()


def _pipe(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def front(target: int, context: ssl.SSLContext | None = None) -> Generator[Moving]:
    """A :class:`Moving` address, with TLS where a context is given."""
    moving = Moving(target, context)
    try:
        yield moving
    finally:
        moving.close()


@contextmanager
def cut_reply(target: int, marker: bytes) -> Generator[tuple[int, list[bytes]]]:
    """A port in front of a server that cuts the connection in place of the reply to each command with a marker.

    :return: the port, and the replies that the clients did not get.
    """
    cut: list[bytes] = []

    def relay(incoming: socket.socket) -> None:
        with incoming, socket.create_connection((HOST, target)) as outgoing, contextlib.suppress(OSError):
            is_marked = False
            while True:
                for ready in select.select([incoming, outgoing], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    if ready is incoming:
                        is_marked = marker in data
                        outgoing.sendall(data)
                    elif is_marked:
                        cut.append(data)
                        return
                    else:
                        incoming.sendall(data)

    threads: list[threading.Thread] = []
    with socket.create_server((HOST, 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threads.append(threading.Thread(target=relay, args=(listener.accept()[0],)))
                    threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield listener.getsockname()[1], cut
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for thread in (accepting, *threads):
                thread.join(LONGEST_WAIT)


@contextmanager
def wrong_way(reply: bytes) -> Generator[int]:
    """A port whose server sends the same bytes to everybody."""
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    connection.recv(1000)
                    connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(LONGEST_WAIT)


@contextmanager
def sentinel_of(binary: str, primary: Child, replica: Child, folder: Path) -> Generator[int]:
    """A Sentinel that watches a primary ``m`` with one replica. Its port."""
    with redis.Redis(port=primary.port) as one, redis.Redis(port=replica.port) as two:
        one.config_set("repl-diskless-sync-delay", 0)
        two.replicaof(HOST, primary.port)
        eventually(lambda: two.info("replication")["master_link_status"] == "up")
        eventually(lambda: one.info("replication")["slave0"]["state"] == "online")
    with Port() as port:
        settings = folder / "sentinel.conf"
        settings.write_text(
            f"port {port.number}\nbind {HOST}\ndir {folder}\nsentinel monitor m {HOST} {primary.port} 1\n"
            "sentinel down-after-milliseconds m 500\nsentinel failover-timeout m 2000\n"
        )
        with (folder / "sentinel.txt").open("wb") as log:
            process = subprocess.Popen([binary, str(settings), "--sentinel"], stdout=log, stderr=log, env=os.environ)
        try:
            with redis.Redis(port=port.number) as sentinel:
                eventually(lambda: sentinel.execute_command("SENTINEL", "REPLICAS", "m"))
            yield port.number
        finally:
            process.kill()
            process.wait()


@contextmanager
def cluster_of_one(folder: Path) -> Generator[str]:
    """A redis cluster of one node that has all slots. Its URL."""
    binary = redis_binary()
    skip_unless(binary, "redis-server")
    with Port() as port:
        options = ["--cluster-enabled", "yes", "--save", "", "--bind", HOST, "--dir", str(folder)]
        server = subprocess.Popen([str(binary), "--port", str(port.number), *options], stdout=subprocess.DEVNULL)
        try:
            with redis.Redis(port=port.number) as client:
                for _ in range(200):
                    try:
                        client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
                        break
                    except redis.ConnectionError:
                        time.sleep(0.02)
                    except redis.ResponseError as busy:  # the client sent it again: the slots are ours already
                        assert "already busy" in str(busy)  # noqa: PT017
                        break
                eventually(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))
            yield f"redis+cluster://{HOST}:{port.number}"
        finally:
            server.kill()
            server.wait()
