"""One accepted connection: a blocking socket that can be ended in any way, and interrupted by another thread.

>>> import socket
>>> ours, theirs = socket.socketpair()
>>> wire = Wire(ours)
>>> theirs.sendall(b"GET")
>>> wire.take(3)
b'GET'
>>> wire.close("fin"); theirs.recv(1); theirs.close()
b''
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import struct
import sys
import time
from threading import Lock
from typing import Final, Literal, TypeAlias

__all__ = ["Gone", "How", "Wire"]

How: TypeAlias = Literal["fin", "rst"]
"""How a connection ends: orderly (FIN), or with a reset (RST) that loses the bytes on their way."""

_BLOCK: Final = 65536
_INSTANT: Final = 1e-6  # a timeout of zero would mean non-blocking
# SO_LINGER with zero seconds makes close() send RST instead of FIN; winsock has shorts where POSIX has ints.
_RESET: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class Gone(Exception):
    """The client has left, or the server is being stopped. Faults do not catch it."""


class Wire:
    """A connection. ``buffer`` holds bytes that were read early. One thread reads; any thread may call :meth:`wake`."""

    def __init__(self, sock: socket.socket) -> None:
        self.buffer = bytearray()
        self._sock = sock
        self._lock = Lock()
        self._closed = False
        with contextlib.suppress(OSError):  # no TCP in a socketpair
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fill(self) -> None:
        """Wait for more bytes.

        :raises Gone: at the end of the stream.
        """
        self._receive(None)

    def take(self, size: int) -> bytes:
        """Return exactly ``size`` bytes.

        :raises Gone: fewer bytes came; they stay in ``buffer``.
        """
        while len(self.buffer) < size:
            self.fill()
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def pause(self, seconds: float | None) -> None:
        """Wait for so many seconds; ``None``: for ever.

        :raises Gone: the client leaves.
        """
        end = None if seconds is None else time.monotonic() + seconds
        while self._receive(None if end is None else max(end - time.monotonic(), _INSTANT)):
            pass

    def send(self, data: bytes) -> None:
        """Write all bytes.

        :raises Gone: the client has ended the connection.
        """
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise Gone from error

    def wait_readable(self) -> None:
        """Wait until :meth:`drain` can return, without changing the TLS state."""
        with selectors.DefaultSelector() as selector:
            try:
                selector.register(self._sock, selectors.EVENT_READ)
            except (OSError, ValueError) as error:
                raise Gone from error
            selector.select()

    def drain(self) -> bytes:
        """Return the bytes that have arrived, without waiting.

        :raises Gone: there are none, because the stream has ended.
        """
        data = bytes(self.buffer)
        self.buffer.clear()
        try:
            self._sock.settimeout(0.0)
            while block := self._sock.recv(_BLOCK):
                data += block
        except (BlockingIOError, ssl.SSLWantReadError):
            return data
        except OSError as error:
            raise Gone from error
        finally:
            self._block()
        if data:
            return data  # the end shows again at the next call
        raise Gone

    def secure(self, context: ssl.SSLContext) -> str | None:
        """Perform a TLS handshake, and return the protocol that ALPN chose.

        :raises Gone: the handshake fails.
        """
        try:
            with self._lock:
                secured = context.wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
                self._sock = secured
            secured.do_handshake()
            return secured.selected_alpn_protocol()
        except (OSError, ValueError) as error:
            raise Gone from error

    def close(self, how: How) -> None:
        """End the connection. Only the reading thread may call it: a read in another thread would keep the socket
        open."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            # Plain socket's own methods: those of SSLSocket would drop the TLS state or wait for the other side.
            with contextlib.suppress(OSError):
                if how == "rst":
                    socket.socket.setsockopt(self._sock, socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                else:
                    socket.socket.shutdown(self._sock, socket.SHUT_WR)
            self._sock.close()

    def wake(self, *, reading_only: bool = False) -> None:
        """From any thread: make the thread that waits for this connection raise :class:`Gone`."""
        with self._lock, contextlib.suppress(OSError):
            if not self._closed:
                socket.socket.shutdown(self._sock, socket.SHUT_RD if reading_only else socket.SHUT_RDWR)

    def _receive(self, timeout: float | None) -> bool:
        try:
            self._sock.settimeout(timeout)
            block = self._sock.recv(_BLOCK)
        except TimeoutError:
            return False
        except OSError as error:
            raise Gone from error
        finally:
            self._block()
        if not block:
            raise Gone
        self.buffer += block
        return True

    def _block(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.settimeout(None)
