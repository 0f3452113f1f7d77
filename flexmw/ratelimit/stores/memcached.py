"""memcached: the keys that it takes, and the test of a server at start-up.

A server that is no memcached, and one that refuses the user name or password, do not become right by waiting, so each
is a ``ConfigError``. A server that is away is one only if the application has not set ``on_store_failure``.

>>> short_key("LIMITS:LIMITER/caller/5/1/minute")
'LIMITS:LIMITER/caller/5/1/minute'
>>> len(short_key("k" * 1000))
240
"""

from __future__ import annotations

import logging
import socket
from hashlib import blake2b
from secrets import token_hex
from typing import Any, Final
from urllib.parse import unquote

from flexmw.errors import ConfigError
from flexmw.kit import time_limit
from flexmw.kit.store_url import PROBE_SECONDS, StorageURL, unusable_at_start

__all__ = ["Login", "credentials_of", "hosts_of", "probe_memcached", "short_key"]

_KEY_BYTES: Final = 240
"""memcached takes keys of 250 bytes. ``limits`` adds ``/expires`` to the key of a counter."""

_DIGEST_BYTES: Final = 20
_REPLY_BYTES: Final = 1024
_SHOWN: Final = 100
_UNAUTHENTICATED: Final = "unauthenticated"
_AUTHENTICATE: Final = f"CLIENT_ERROR {_UNAUTHENTICATED}"
_REFUSED: Final = "CLIENT_ERROR authentication failure"
_NO_USERS: Final = "has no users, and stores both as the value of a key that everybody can read"
"""A user name and a password have the form of a write, so they are sent only to a server that asks for them."""


def short_key(key: str) -> str:
    """Return a key that memcached takes: the end of a longer one is replaced by its digest.

    :param key: a text in ASCII without spaces.
    """
    if len(key) <= _KEY_BYTES:
        return key
    digest = blake2b(key.encode(), digest_size=_DIGEST_BYTES).hexdigest()
    return f"{key[: _KEY_BYTES - len(digest)]}{digest}"


def hosts_of(url: StorageURL) -> str:
    """The hosts of a URL in the form that ``limits`` reads: each has its port."""
    return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in url.nodes)


def credentials_of(url: StorageURL) -> str:
    """The user name and password of a URL, decoded, in the form that the server takes; empty without them."""
    info = url.url.partition("://")[2].rpartition("@")[0]
    user, _, password = info.partition(":")
    return f"{unquote(user)} {unquote(password)}" if info else ""


class Login:
    """The log-in of each new connection, an ``authenticator`` of memcachio.

    The driver's own one sends the credentials to any server. A server that was away at start, or was replaced since,
    may have no users.

    :param credentials: user name and password, separated by a space.
    """

    def __init__(self, credentials: str) -> None:
        self._credentials = credentials

    async def authenticate(self, connection: Any) -> bool:
        """Log in on a connection.

        :raises memcachio.errors.ClientError: the server has no users, or refuses the credentials. The connection is
            closed.
        """
        from memcachio.commands import IncrCommand, SetCommand
        from memcachio.errors import ClientError

        try:
            if not await _is_asked_for(connection, IncrCommand(f"flexmw:probe:{token_hex(8)}", 1, False)):
                raise ClientError(f"the server {_NO_USERS}: user name and password were not sent")
            log_in = SetCommand("auth", self._credentials)
            connection.create_request(log_in)
            return bool(await log_in.response)
        except BaseException:
            connection.close()  # the driver would use it
            raise


async def _is_asked_for(connection: Any, command: Any) -> bool:
    """Whether the server refuses a command because the connection has not logged in."""
    connection.create_request(command)
    try:
        await command.response
    except Exception as error:
        if _UNAUTHENTICATED not in str(error):
            raise
        return True
    return False


def probe_memcached(
    url: StorageURL, option: str, *, required: bool, log: logging.Logger, timeout: float = PROBE_SECONDS
) -> None:
    """Ask each server of a URL for a counter that does not exist. Blocks for about ``timeout`` seconds per server.

    One server that replies is enough.

    :param option: the name of the option, for the message of an error.
    :param required: whether servers that cannot be reached now are an error; otherwise they are a WARNING.
    :param timeout: seconds for one server.
    :raises ConfigError: with ``option``, the masked URL, what the server said and what to do.
    """
    problems: list[str] = []
    credentials = credentials_of(url).encode()
    key = f"flexmw:probe:{token_hex(8)}".encode()
    count, log_in = b"incr %s 1\r\n" % key, b"set %s 0 1 %d\r\n%s\r\n" % (key, len(credentials), credentials)
    for host, port in url.nodes:
        try:
            with time_limit.within(timeout):  # also for a server whose reply comes byte by byte
                reply = _reply((host, port), count)
                if credentials and reply.startswith(_AUTHENTICATE):
                    reply = _reply((host, port), log_in, count)
                elif credentials and reply.startswith("NOT_FOUND"):
                    raise ConfigError(option, url.shown, f"no user name and no password: {host}:{port} {_NO_USERS}")
        except OSError as error:
            problems.append(f"{host}:{port}: {error.strerror or error}")
            continue
        if reply.startswith("SERVER_ERROR"):
            problems.append(f"{host}:{port}: {reply[:_SHOWN]}")
        elif not reply.startswith("NOT_FOUND"):
            raise ConfigError(option, url.shown, f"a store that works: {host}:{port}: {_meaning(reply)}")
    if len(problems) == len(url.nodes):
        unusable_at_start(url, option, "; ".join(problems), required=required, log=log)


def _reply(address: tuple[str, int], *commands: bytes) -> str:
    """The first line of the reply to the last command, or to the first one that is not carried out.

    :raises OSError: the server cannot be reached, ends the connection or sends no line in time.
    """
    reply = ""
    with socket.create_connection(address, max(0.001, time_limit.remaining())) as connection:
        for command in commands:
            reply = _line(time_limit.Socket(connection), command)
            if not reply.startswith("STORED"):
                break
    return reply


def _line(connection: time_limit.Socket, command: bytes) -> str:
    connection.sendall(command)
    received = b""
    while b"\n" not in received and len(received) < _REPLY_BYTES:
        data = connection.recv(_REPLY_BYTES)
        if not data:
            raise ConnectionError("the server has ended the connection")
        received += data
    return received.partition(b"\n")[0].decode("latin-1").strip()


def _meaning(reply: str) -> str:
    if reply.startswith(_AUTHENTICATE):
        return "the server requires a user name and password: name them in the URL"
    if reply.startswith(_REFUSED):
        return "the server refuses the user name or password"
    return "the server is no memcached"
