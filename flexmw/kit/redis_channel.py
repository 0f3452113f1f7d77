"""One connection to redis or valkey that many commands of one event loop share.

A server carries out the commands of a connection in order, so any number of them can be on their way, and their replies
come in the same order. Commands that are sent in one turn of the event loop leave in one write. A pool of connections
needs a write, a read and several awaits for each command, and a connection for each command that is on its way.

====================== ================================================================================================
Event                  What follows
====================== ================================================================================================
a command is cancelled its reply is dropped when it comes. The connection goes on, in step
a command takes longer it fails with ``TimeoutError``. If nothing at all has arrived lately, the channel is retired: it
than it may            takes no more commands, and is closed once those on their way have ended
the connection ends    every command on its way fails with ``ConnectionError``: nobody knows whether it was executed.
                       None is repeated
====================== ================================================================================================

All times are those of the event loop's :class:`~flexmw.kit.loop_time.LoopTime`: a blocked loop is no slow server.
redis-py makes the connection, with its TLS, its credentials, its Sentinel and its choice of the protocol.
"""

from __future__ import annotations

import asyncio
import copy
from asyncio import Future
from collections import deque
from math import inf
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from flexmw.kit.loop_time import LoopTime
from flexmw.kit.redis_flow import Address
from flexmw.kit.redis_wire import ReplyReader, pack

__all__ = ["Channel"]

_ASKING: Final = pack("ASKING")
_PING: Final = pack("PING")
_SILENT_SECONDS: Final = 0.25
"""A channel is retired if a command times out and nothing has arrived for this time."""

_BUFFER_BYTES: Final = 65_536
_RETIRED_SECONDS: Final = 1.0
"""Seconds between two checks of a retired channel whose commands have no time limit."""


class Channel(asyncio.BufferedProtocol):
    """Sends commands over one connection. Belongs to the running event loop.

    :param connection: a connection of redis-py that is not connected.
    :param connect_timeout: seconds until a connection attempt fails, with its handshake.
    :param time: the clock of the event loop.
    """

    __slots__ = (
        "_buffer",
        "_connect_timeout",
        "_connect_timer",
        "_connecting",
        "_connection",
        "_data_at",
        "_health_timer",
        "_is_due",
        "_loop",
        "_outgoing",
        "_pending",
        "_reader",
        "_socket_timeout",
        "_sweep_at",
        "_sweep_timer",
        "_time",
        "_transport",
        "_writer",
        "is_usable",
    )

    def __init__(self, connection: Any, *, connect_timeout: float, time: LoopTime) -> None:
        self._loop, self._time = asyncio.get_running_loop(), time
        self._connection, self._connect_timeout = connection, connect_timeout
        self._socket_timeout: float | None = connection.socket_timeout
        self.is_usable = True
        """Whether the channel takes commands."""
        self._outgoing: list[tuple[Future[Any], float, bytes, bool]] = []
        """The commands that are not sent yet: future, end of its time, packed command, whether ``ASKING`` goes
        first."""
        self._is_due = False
        self._pending: deque[tuple[Future[Any] | None, float]] = deque()
        """The commands on their way: future, end of its time. ``None``: the reply is dropped."""
        self._reader = ReplyReader()
        # asyncio allocates 256 KiB for each read of a protocol without a buffer of its own.
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._transport: Any = None
        self._writer: Any = None
        self._data_at = self._time.now()
        self._sweep_at = inf
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._health_timer: asyncio.TimerHandle | None = None
        self._connect_timer: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Task[None] | None = self._loop.create_task(self._connect())

    @property
    def address(self) -> Address | None:
        """The address of the server; ``None`` for a unix socket."""
        host = getattr(self._connection, "host", None)
        return None if host is None else (host, int(self._connection.port))

    @property
    def is_silent(self) -> bool:
        """Whether the connection is open, and nothing has arrived lately."""
        silent_seconds = min(_SILENT_SECONDS, self._connect_timeout)
        return self._connecting is None and self._time.now() - self._data_at > silent_seconds

    async def send(self, command: bytes, end: float = inf, *, asking: bool = False, at_once: bool = False) -> Any:
        """Send a command. Returns its reply.

        :param command: the packed command.
        :param end: when the time of the command is over, by the clock of the event loop.
        :param asking: send ``ASKING`` before it, in the same write.
        :param at_once: send it, and those that wait, before the end of this turn of the event loop.
        :raises TimeoutError: when the time is over. The command may be executed nevertheless.
        :raises RedisError: the error that the server has sent, or the end of the connection.
        """
        future = self.submit(command, end, asking=asking)
        if at_once:
            self._flush()
        reply = await future
        if isinstance(reply, Exception):
            raise reply
        return reply

    def submit(self, command: bytes, end: float = inf, *, asking: bool = False) -> Future[Any]:
        """Send a command, and return the future of its reply.

        An error is the result of the future, and not its exception: asyncio would log an exception that nobody
        retrieves, because the task that waits for it was cancelled.
        """
        if self._socket_timeout is not None:
            end = min(end, self._time.now() + self._socket_timeout)
        future: Future[Any] = self._loop.create_future()
        self._outgoing.append((future, end, command, asking))
        if end < self._sweep_at:
            self._sweep_no_later_than(end)
        if not self._is_due and self._transport is not None:
            self._is_due = True
            self._loop.call_soon(self._flush)
        return future

    def retire(self) -> None:
        """Take no more commands, and close the connection when those on their way have ended."""
        self.is_usable = False
        self._close_if_idle()

    def close(self, error: Exception | None = None) -> None:
        """Close the connection now.

        :param error: what the commands on their way fail with; ``None``: a ``ConnectionError``.
        """
        self.is_usable = False
        self._stop_sweeping()
        if self._health_timer is not None:
            self._health_timer.cancel()
        connecting, self._connecting = self._connecting, None
        if connecting is not None and connecting is not asyncio.current_task():
            connecting.cancel()
        transport, self._transport = self._transport, None
        if transport is not None:
            # Nothing is sent any more, and a TLS connection must not wait for the server's close_notify.
            transport.abort()
        waiting = self._waiting()
        self._outgoing.clear()
        self._pending.clear()
        for future, _ in waiting:
            if not future.done():
                future.set_result(_copy(error or RedisConnectionError("Connection closed by server.")))

    async def _connect(self) -> None:
        connection = self._connection
        self._time.begin()
        self._limit_connecting(self._time.now() + self._connect_timeout)
        try:
            await connection.connect()
            self._connecting = None
            self._take_over(connection)
        except asyncio.CancelledError:
            _drop(connection)
            if self._connect_timer is not None:  # the timer has not cancelled the task
                self.close()
                raise
            self.close(RedisTimeoutError("Timeout connecting to server"))
        except Exception as error:
            _drop(connection)
            self.close(error)
        finally:
            self._time.end()
            if self._connect_timer is not None:
                self._connect_timer.cancel()

    def _limit_connecting(self, end: float) -> None:
        self._connect_timer = self._loop.call_later(max(0.0, end - self._time.now()), self._end_connecting, end)

    def _end_connecting(self, end: float) -> None:
        if self._time.now() < end:
            self._limit_connecting(end)
        elif self._connecting is not None:
            self._connect_timer = None
            self._connecting.cancel()

    def _take_over(self, connection: Any) -> None:
        """Take the connection over from redis-py, which has made it: the channel reads and writes it from now on."""
        reader, self._writer = connection._reader, connection._writer
        connection._reader = connection._writer = None
        self._transport = self._writer.transport
        self._transport.set_protocol(self)
        self._data_at = self._time.now()
        if self._transport.is_closing():
            self.close()
            return
        rest = bytes(getattr(reader, "_buffer", b""))
        if rest:
            self._read(rest)
        if connection.health_check_interval:
            self._check_health()
        self._flush()
        if not self.is_usable:
            self._close_if_idle()

    def _flush(self) -> None:
        self._is_due = False
        if self._transport is None:
            return
        commands: list[bytes] = []
        pending = self._pending
        for future, end, command, asking in self._outgoing:
            if future.done():  # cancelled, or too late: it was never sent
                continue
            if asking:
                commands.append(_ASKING)
                pending.append((None, inf))
            commands.append(command)
            pending.append((future, end))
        self._outgoing.clear()
        if commands:
            self._transport.write(b"".join(commands))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._read(bytes(self._buffer[:nbytes]))

    def _read(self, data: bytes) -> None:
        self._data_at = self._time.now()
        pending = self._pending
        try:
            for reply in self._reader.feed(data):
                future, _ = pending.popleft()
                if future is not None and not future.done():
                    future.set_result(reply)
        except Exception as error:  # bytes that are no reply, or a reply to nothing
            self.close(error if isinstance(error, RedisError) else None)
            return
        if not self.is_usable:
            self._close_if_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self.close(None if exc is None else RedisConnectionError(f"Connection lost: {exc}"))

    def _waiting(self) -> list[tuple[Future[Any], float]]:
        """Return the commands whose caller waits for the reply, sent or not."""
        waiting = [(future, end) for future, end in self._pending if future is not None and not future.done()]
        return waiting + [(future, end) for future, end, *_ in self._outgoing if not future.done()]

    def _close_if_idle(self) -> None:
        if not self._waiting():
            self.close()
        elif self._sweep_timer is None:
            self._sweep_no_later_than(self._time.now() + _RETIRED_SECONDS)

    def _sweep_no_later_than(self, end: float) -> None:
        """Set the timer. All commands share one timer, because nearly all end long before their time."""
        self._stop_sweeping()
        self._time.begin()
        self._sweep_at = end
        self._sweep_timer = self._loop.call_later(max(0.0, end - self._time.now()), self._sweep)

    def _stop_sweeping(self) -> None:
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer, self._sweep_at = None, inf
            self._time.end()

    def _sweep(self) -> None:
        """Fail the commands whose time is over. The event loop reads replies before it calls timers, so a reply that
        has arrived is not lost."""
        self._stop_sweeping()
        now, next_at, has_expired = self._time.now(), inf, False
        for future, end in self._waiting():
            if end <= now:
                has_expired = True
                future.set_result(TimeoutError("Timeout reading from the server"))
            elif end < next_at:
                next_at = end
        if next_at < inf:
            self._sweep_no_later_than(next_at)
        if has_expired and self.is_silent:
            self.is_usable = False
        if not self.is_usable:
            self._close_if_idle()

    def _check_health(self) -> None:
        """Send a PING over an idle connection, and retire the channel if no reply arrives."""
        interval = float(self._connection.health_check_interval)
        self._health_timer = self._loop.call_later(interval, self._check_health)
        if self.is_usable and not self._pending and self._time.now() - self._data_at >= interval * 0.9:
            self._health_timer.cancel()
            self._pending.append((None, inf))
            self._transport.write(_PING)
            self._health_timer = self._loop.call_later(self._connect_timeout, self._judge_health, self._data_at)

    def _judge_health(self, data_at: float) -> None:
        if self._data_at == data_at:
            self.retire()
        else:
            self._check_health()


def _drop(connection: Any) -> None:
    """Close a connection that redis-py has not finished, without waiting for the server."""
    writer = connection._writer
    connection._reader = connection._writer = None
    if writer is not None:
        writer.transport.abort()


def _copy(error: Exception) -> Exception:
    """Copy an error that several tasks raise: each task adds a traceback."""
    try:
        copied = copy.copy(error)
    except Exception:
        return error
    copied.__cause__ = error
    return copied
