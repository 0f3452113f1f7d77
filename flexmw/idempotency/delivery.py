"""Delivery: send the response of an execution to the client of its first request, beside the app.

The messages of a stream are sent by a task of their own, which reads the log of the response. A client that reads
slowly, or not at all, therefore delays neither the app nor other readers. Under asyncio a message is sent within the
``send`` of the app as long as the client reads (:mod:`flexmw.idempotency.handover`); under trio the app waits until it
is sent. To send from the app's own task, and hand over a ``send`` that has waited long, does not work: what is inside a
``send`` cannot change its task, and cancelling it loses the message. To hand over each message costs two switches of
tasks for each chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from inspect import iscoroutinefunction
from typing import Any, Final

import anyio

from flexmw.idempotency.client_connection import ClientConnection
from flexmw.idempotency.handover import READY, REFUSED, Handover, work_of
from flexmw.idempotency.log import ResponseLog
from flexmw.idempotency.recording import ResponseRecorder
from flexmw.idempotency.signals import Pause, Signal
from flexmw.idempotency.task_identity import running_tasks
from flexmw.kit.asgi import Message, Send

__all__ = ["LAST_SECONDS", "PATIENCE", "Delivery"]

PATIENCE: Final = 0.25
"""Seconds that the app waits, in all, for a client that reads slowly."""

LAST_SECONDS: Final = 1.0
"""Seconds that the app waits at the end of its response, and that a message may take to a client that has left."""


def _nothing() -> None: ...


def _coroutines_of(send: Send) -> Callable[[Message], Any]:
    """``send``, whose result is a coroutine in any case. Some servers return another awaitable."""
    if iscoroutinefunction(send):
        return send

    async def sent(message: Message) -> None:
        await send(message)

    return sent


class Delivery:
    """Sends the chunks of a log to the client, each as one message and in their order.

    :param recorder: what the app has sent; it has a log.
    :ivar is_behind: the client has not got all that the log has.
    :ivar done: set when nothing more is sent.
    :ivar write: records a message of the app, and sends it up to the first wait. ``None`` while the client has not got
        all that the log has. Called by ``run_in_context(write, message)``.
        Returns :data:`READY`; :data:`REFUSED`, where nothing was done and the message needs :meth:`put`; or what the
        server waits for, which is then given to :meth:`leave`.
    :ivar cancel: cancels the task of this delivery.
    """

    __slots__ = (
        "_caught_up",
        "_client",
        "_ends",
        "_final",
        "_handover",
        "_limit",
        "_log",
        "_patience",
        "_rest",
        "_sent",
        "_wake",
        "cancel",
        "done",
        "is_behind",
        "run_in_context",
        "write",
    )

    def __init__(self, client: ClientConnection, recorder: ResponseRecorder, log: ResponseLog) -> None:
        self._client, self._log = client, log
        self._rest, self._ends = recorder.rest, recorder.ends
        self._final: Message | None = None
        self._limit: int | None = None
        self._sent, self._patience = 0, PATIENCE
        self._handover: Handover | None = None
        self._wake: Pause | anyio.Event | None = None
        self._caught_up: anyio.Event | None = None
        self.write: Callable[[Message], object] | None = None
        self.is_behind = True
        self.done = Signal()
        self.cancel: Callable[[], object] = _nothing

    async def run(self) -> None:
        """Send what the log gets, until :meth:`close` has said what is the last."""
        handover: Handover | None = None
        with suppress(RuntimeError):
            handover = self._handover = Handover(self._writing)
            self.run_in_context = handover.run
        try:
            while await self._send_next():
                pass
            if self._final is not None:
                await self._client.send(self._final)
        finally:
            self.end()
            if handover is not None:
                handover.close()

    def end(self) -> None:
        """Nothing more is sent: the task of this delivery has ended, or was cancelled before it ran. Called again, this
        does nothing."""
        self.is_behind, self.write, self._handover = True, None, None
        self.done.set()
        self._release()

    async def _send_next(self) -> bool:
        handover, send = self._handover, self._client.send
        if handover is not None and handover.is_pending:
            await handover.finish()
        chunks = self._log.chunks
        while self._sent < (len(chunks) if self._limit is None else self._limit):
            chunk = chunks[self._sent]
            self._sent += 1
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if self._limit is not None:
            return False
        if self._client.failure is not None or self._client.is_dropping:
            self._handover = None  # :meth:`write` would send again, to a server that has refused it or lost the client
        self._release()
        wake = self._wake = anyio.Event() if handover is None else Pause()
        self.is_behind = False
        self.write = None if self._handover is None else self._handover.send
        await wake.wait()
        return True

    def _release(self) -> None:
        """Let the app go on, if it waits."""
        if self._caught_up is not None:
            self._caught_up.set()
            self._caught_up = None

    @work_of
    def _writing(self, handover: Handover) -> Generator[Any, Message, None]:
        """Record and send each message of the app that is a whole unit, as long as the client has got all before it.

        This is the path of each chunk of a stream that is read as it is written, with all that it needs in local
        variables. To count the bytes that are left, instead of those that the log has, does not pay.
        """
        log, rest, ends, send = self._log, self._rest, self._ends, _coroutines_of(self._client.send_raw)
        chunks, max_body, ready = log.chunks, log.max_body, READY
        tasks, loop, task = running_tasks, handover.loop, handover.task
        try:
            message = yield ready
            while True:
                try:
                    while True:
                        data = message["body"]
                        if not (
                            type(data) is bytes
                            and message["more_body"]
                            and not rest
                            # The last two bytes are compared in half of the time of ``endswith``.
                            and ((data[-1] == 10 and data[-2] == 10) or data.endswith(ends))
                            and (size := log.size + len(data)) <= max_body
                        ):
                            break
                        handover.caller = tasks[loop]  # fails outside of all tasks, so before the chunk is recorded
                        log.size = size
                        chunks.append(data)
                        if log.changed is not None:
                            log.wake()
                        tasks[loop] = task
                        try:
                            yield from send(message)
                        except BaseException as error:
                            self._fail(error, handover)
                        tasks[loop] = handover.caller
                        message = yield ready
                except LookupError:  # no body, or less than two bytes
                    pass
                message = yield REFUSED
        finally:
            self._handover = self.write = None

    def _fail(self, error: BaseException, handover: Handover) -> None:
        """A message was not sent. Raises what ends the delivery."""
        if not isinstance(error, GeneratorExit):  # it is raised in whatever task runs when the work is dropped
            running_tasks[handover.loop] = handover.caller
        if not isinstance(error, Exception):
            raise error
        self._client.fail(error)
        self._handover = self.write = None

    def leave(self, awaited: object) -> None:
        """A message that :attr:`write` has begun to send has to wait: the task of this delivery goes on with it."""
        if self._handover is not None:
            self._handover.leave(awaited)
            self._resume(len(self._log.chunks))

    def put(self) -> None:
        """The log has got a chunk by another way than :meth:`write`."""
        if not self.is_behind:
            self._resume(self._sent if self._handover is None else len(self._log.chunks) - 1)

    def _resume(self, sent: int) -> None:
        """Let the task of this delivery run.

        :param sent: the chunks of the log that the client has got, or is getting.
        """
        self._sent, self.is_behind, self.write = sent, True, None
        wake, self._wake = self._wake, None
        if wake is not None:
            wake.set()

    def close(self, final: Message | None = None) -> None:
        """Nothing more comes than what the log has now, and then ``final``."""
        if self._limit is None:
            self._limit, self._final = len(self._log.chunks), final
            self._resume(self._sent if self.is_behind else self._limit)

    async def catch_up(self) -> None:
        """Wait until the client has got what the log has.

        All such waits of one response together last :data:`PATIENCE` seconds at most: after that the app is not delayed
        any more.
        """
        if self.is_behind and self._patience > 0 and not self.done.is_set:
            caught_up = self._caught_up = anyio.Event()
            begin = anyio.current_time()
            with anyio.move_on_after(self._patience):
                await caught_up.wait()
            self._patience -= anyio.current_time() - begin

    async def give_up(self) -> None:
        """The client has left. The rest goes to the components outside and not to the server. Stop as soon as a message
        takes longer than :data:`LAST_SECONDS`: nobody reads it."""
        self._client.drop_rest()
        if self._client.is_dropping:
            self.write = None
        while not self.done.is_set:
            sent = self._sent
            await anyio.sleep(LAST_SECONDS)
            if sent == self._sent and self.is_behind:
                self.cancel()
                return
