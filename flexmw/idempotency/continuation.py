"""Send the response of an execution to a request that does not run the app: a continuation, or a plain duplicate.

A continuation carries the field ``Idempotent-Stream`` (``docs/streams.md``). It is the same request again, and gets the
bytes from an offset on, with a digest of the bytes before. It never begins an execution, whatever the store holds. A
plain duplicate that may follow (``Prefer: wait``, ``Idempotency(attach="all")``) gets the response from byte 0 on.

A response whose execution does not end is never ended cleanly: the app returns without a last body message, and the
server breaks the connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import Final, NamedTuple, TypeVar

import anyio

from flexmw.contract.idempotent_stream import STREAM, StreamPosition, format_stream, parse_stream
from flexmw.errors import APIError
from flexmw.idempotency import errors
from flexmw.idempotency.core import Record, StoredResponse
from flexmw.idempotency.log_head import LogHead
from flexmw.idempotency.log_reader import LogReader, Look, State
from flexmw.idempotency.plan import Plan
from flexmw.idempotency.reading import is_disconnected
from flexmw.idempotency.response_head import HTTP_1_0, RESULT
from flexmw.idempotency.stores import Held
from flexmw.idempotency.stores.guarded import guarded
from flexmw.kit.asgi import ASGIApp, Receive, Scope, Send
from flexmw.kit.cors import send_through_cors, stream_through_cors
from flexmw.kit.exchange import Exchange, Header

__all__ = ["Continuation", "Running", "running_response", "send_stored", "stream_position"]

T = TypeVar("T")

_PIECE_BYTES: Final = 64 * 1024
"""Bytes that are read and sent at once."""

_PREFIX_BYTES: Final = 256 * 1024
"""Bytes that are read at once to compute the digest."""

_RETRY_AFTER: Final = 1.0
"""Seconds in the ``Retry-After`` of a 409 ``idempotency_in_progress``."""

_LENGTH: Final = "content-length"


class Running(NamedTuple):
    """A response that can be sent.

    :param generation: the generation of its execution.
    :param reader: reads it.
    """

    generation: str
    reader: LogReader


class Continuation:
    """Sends the response of one execution. Used once.

    :param running: the response.
    :param start: offset of the first byte to send; ``None`` for a plain duplicate, which gets all of them.
    """

    def __init__(
        self,
        plan: Plan,
        scope: Scope,
        receive: Receive,
        send: Send,
        running: Running,
        *,
        start: int | None,
    ) -> None:
        self._plan, self._scope, self._receive, self._send = plan, scope, receive, send
        self._generation, self._reader = running
        self._start = start
        self._at = start or 0
        self._digest = b""

    @classmethod
    async def respond(
        cls,
        plan: Plan,
        scope: Scope,
        receive: Receive,
        send: Send,
        name: str,
        fingerprint: str,
        position: StreamPosition,
    ) -> APIError | None:
        """Respond to a request that has the field. Returns the error that the request gets instead.

        :param name: the store key of the request.
        :param fingerprint: the keyed hash of the request.
        :param position: the value of the field.
        """
        reader = LogReader(plan.claims, plan.logs, name, position.generation)
        try:
            with guarded(plan.claims.store):
                held: Held | None = await plan.claims.store.load(name)
        except Exception as failure:
            Exchange.of(scope).emit("flexmw.idempotency.store_failed", {"exception": failure})
            return errors.StoreOffline()
        if _is_of_another_request(held, fingerprint):
            return errors.KeyReused(plan.header)
        found = reader.consider(held)
        # What a process that has died has logged is sent once more: the log says whether there is something.
        if found.state != "lost" and (error := _refusal(found, reader)) is not None:
            return error
        return await cls(plan, scope, receive, send, Running(position.generation, reader), start=position.start).send()

    async def send(self) -> APIError | None:
        """Send the response. Returns the error that the request gets instead, if nothing was sent."""
        return await _while_connected(self._receive, self._attached)

    async def _attached(self) -> APIError | None:
        followers = self._plan.followers
        if not followers.attach(self._generation):
            return errors.TooManyFollowers()
        try:
            try:
                reached = await self._reach()
            except Exception as failure:
                return self._store_error(failure)
            return reached if isinstance(reached, APIError) else await self._follow(*reached)
        finally:
            followers.detach(self._generation)

    async def _follow(self, head: LogHead, look: Look) -> APIError | None:
        log = self._reader.log
        if log is None:
            await self._send_from(head, look)
            return None
        if not log.attach():
            return errors.TooManyFollowers()
        try:
            await self._send_from(head, look)
        finally:
            log.detach()
        return None

    async def _reach(self) -> tuple[LogHead, Look] | APIError:
        """Wait until there is a head and the response has ``start`` bytes, and compute their digest. Returns the head
        and what there is at ``start``."""
        reader, digest, at, start = self._reader, sha256(), 0, self._at
        while True:
            look = await reader.look(at, min(_PREFIX_BYTES, start - at) if at < start else _PIECE_BYTES)
            if at < start and look.data:
                digest.update(look.data)
                at += len(look.data)
                continue
            if look.state == "whole" and start > look.size:
                return errors.StreamInvalid(f"'from' is {start}, and the response has {look.size} bytes")
            if not look.data and (error := _refusal(look, reader)) is not None:
                return error
            if at == start and reader.head is not None:
                self._digest = digest.digest()
                return reader.head, look
            await reader.wait(at)

    async def _send_from(self, head: LogHead, look: Look) -> None:
        Exchange.of(self._scope).facts[RESULT] = "attached"
        start = {"type": "http.response.start", "status": head.status, "headers": self._headers(head, look)}
        # The first caller may have come from another origin.
        await stream_through_cors(self._scope, self._send, self._plan.app, start, partial(self._send_body, look))

    async def _send_body(self, look: Look, send: Send) -> None:
        reader = self._reader
        while True:
            self._at += len(look.data)
            is_last = look.state == "whole" and self._at == look.size
            if look.data or is_last:
                await send({"type": "http.response.body", "body": look.data, "more_body": not is_last})
            if is_last:
                return
            if not look.data:
                if look.state != "running":
                    return  # without a last message: the server breaks the connection
                await reader.wait(self._at)
            try:
                look = await reader.look(self._at, _PIECE_BYTES)
            except Exception as failure:
                self._store_error(failure)
                return

    def _headers(self, head: LogHead, look: Look) -> list[Header]:
        length = look.size if look.state == "whole" else None
        headers: list[tuple[str, str]] = []
        for name, value in head.headers:
            if name == _LENGTH:
                length = int(value) if length is None and value.isdigit() else length
            elif name != STREAM:
                headers.append((name, value))
        if length is not None and length >= self._at:
            headers.append((_LENGTH, str(length - self._at)))
        if all(name != "cache-control" for name, _ in headers):
            headers.append(("cache-control", "no-store"))
        confirm = length is None and self._scope.get("http_version") in HTTP_1_0
        if self._start is None:
            headers.append(("idempotent-replayed", "true"))
            if self._plan.continues:
                headers.append((STREAM, format_stream(self._generation, confirm=confirm)))
        else:
            headers.append((STREAM, format_stream(self._generation, self._start, self._digest, confirm=confirm)))
        if head.status >= 500:
            headers.append(("x-should-retry", "false"))
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]

    def _store_error(self, failure: Exception) -> APIError:
        Exchange.of(self._scope).emit("flexmw.idempotency.store_failed", {"exception": failure})
        return errors.StoreOffline()


async def send_stored(scope: Scope, send: Send, app: ASGIApp, response: StoredResponse, body: bytes) -> None:
    """Send a stored response as a replay.

    :param app: the wrapped app, which does not run.
    :param body: the body of the response.
    """
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    if body and all(name != _LENGTH for name, _ in response.headers):
        headers.append((_LENGTH.encode(), str(len(body)).encode()))  # a proxy cannot hide a cut then
    headers.append((b"idempotent-replayed", b"true"))
    if response.status >= 500:
        headers.append((b"x-should-retry", b"false"))
    start = {"type": "http.response.start", "status": response.status, "headers": headers}
    # The first caller may have come from another origin.
    await send_through_cors(scope, send, app, (start, {"type": "http.response.body", "body": body}))


def stream_position(scope: Scope, key: str | None, key_header: str) -> StreamPosition:
    """What the field ``Idempotent-Stream`` of a request asks for. Its ``start`` is a number.

    :param key: the key of the request.
    :param key_header: the header of keys, as users write it.
    :raises ValueError: for a field that is not valid.
    """
    name = STREAM.encode()
    position = parse_stream([value.decode("latin-1") for other, value in scope["headers"] if other == name])
    if position.start is None:
        raise ValueError("a request needs the parameter 'from'")
    if key is None:
        raise ValueError(f"it is valid only together with the {key_header} header")
    return position


async def running_response(plan: Plan, name: str) -> Running | None:
    """The response that is being made under a key; ``None`` where its head is not known yet.

    Raises what the store raises.

    :param name: the store key.
    """
    with guarded(plan.claims.store):
        held: Held | None = await plan.claims.store.load(name)
    record = _record(held)
    if record is None or record.phase != "running" or not record.generation:
        return None
    reader = LogReader(plan.claims, plan.logs, name, record.generation)
    look = await reader.look(0, 0)
    return Running(record.generation, reader) if look.state == "running" and reader.head is not None else None


async def _while_connected(receive: Receive, work: Callable[[], Awaitable[T]]) -> T | None:
    """Do ``work`` until it is done or the client leaves. Returns its result; ``None`` where the client has left.

    The whole body of the request was read, so the next message is the disconnect.
    """
    result: list[T] = []
    failure: list[Exception] = []

    async def watch(scope: anyio.CancelScope) -> None:
        with suppress(Exception):
            if not await is_disconnected(receive):
                return
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch, group.cancel_scope)
        try:
            result.append(await work())
        except OSError:  # the client has left
            pass
        except Exception as error:  # a task group would wrap it in an exception group
            failure.append(error)
        group.cancel_scope.cancel()
    if failure:
        raise failure[0]
    return result[0] if result else None


def _record(held: Held | None) -> Record | None:
    try:
        return None if held is None else Record.decode(held.entry)
    except ValueError:
        return None


def _is_of_another_request(held: Held | None, fingerprint: str) -> bool:
    record = _record(held)
    return record is not None and record.fingerprint != fingerprint


_ERRORS: Final[dict[State, Callable[[], APIError]]] = {
    "changed": errors.StreamChanged,
    "gone": errors.StreamGone,
    "lost": errors.KeyUnknown,
    "elsewhere": lambda: errors.KeyInProgress(_RETRY_AFTER),
}


def _refusal(look: Look, reader: LogReader) -> APIError | None:
    """The error of a request for a response that cannot be sent in the state that was found; ``None`` if it can."""
    if look.state == "too_large":
        return errors.ResponseNotStored(200 if reader.head is None else reader.head.status, look.size)
    error = _ERRORS.get(look.state)
    return None if error is None else error()
