"""Loopback ports that stay reserved for this process, also while nothing listens on them.

>>> import socket
>>> with closed_port() as url:
...     try:
...         socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])))
...     except ConnectionRefusedError:
...         print("refused")
refused
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Thread
from typing import Final, Self

__all__ = ["HOST", "Listener", "Port", "closed_port"]

HOST: Final = "127.0.0.1"


class Port:
    """A TCP port of 127.0.0.1: the given one, or any free one.

    Reserve a port by a socket that is bound and never listens: no other process gets the port.

    A child process that sets SO_REUSEADDR or SO_REUSEPORT, as servers do, can listen on the port at the same time.
    Where the system has no SO_REUSEPORT (Windows) the port is only kept while something listens on it.
    """

    def __init__(self, number: int = 0) -> None:
        self._keeper = _bound(number)
        self.number: int = self._keeper.getsockname()[1]
        if not hasattr(socket, "SO_REUSEPORT"):
            self._keeper.close()

    def listen(self) -> socket.socket:
        """Return a new listening socket on this port. Connections are refused again once it is closed."""
        listener = _bound(self.number)
        listener.listen(128)
        return listener

    def release(self) -> None:
        """Release the port."""
        self._keeper.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()


class Listener:
    """Accepts connections in a thread, from the moment it is made until :meth:`stop`."""

    def __init__(self, sock: socket.socket, accept: Callable[[socket.socket], None]) -> None:
        self._sock = sock
        self._sock.setblocking(False)
        self._accept = accept
        self._wake, self._woken = socket.socketpair()
        self._thread = Thread(target=self._run, name="hostile-listener", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections from now on. The system resets connections that were not accepted yet."""
        self._wake.close()
        self._thread.join()
        self._sock.close()
        self._woken.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not any(key.fileobj is self._woken for key, _ in selector.select()):
                try:
                    connection, _ = self._sock.accept()
                except OSError:  # the client left before it was its turn
                    continue
                connection.setblocking(True)
                self._accept(connection)


@contextmanager
def closed_port() -> Generator[str]:
    """Yield the URL of a port that refuses every connection while the block runs."""
    with Port() as port:
        yield f"http://{HOST}:{port.number}"


def _bound(number: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if hasattr(socket, "SO_REUSEPORT"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # for those who listen without SO_REUSEPORT
        sock.bind((HOST, number))
    except OSError:
        sock.close()
        raise
    return sock
