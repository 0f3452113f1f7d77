"""Run the app once for a claimed key, and write the outcome to the store.

The response is recorded while it flows to the client. The response is stored before its last part is sent, so a client
that has read all of it can rely on the replay.

A response in one message is sent by the app's own task. A stream, which is a successful response whose first body
message says that more follows, is recorded in a :class:`~flexmw.idempotency.log.ResponseLog`, and a
:class:`~flexmw.idempotency.delivery.Delivery` sends it. Once the body is longer than ``max_body``, it is not kept any
more: the app's task sends the rest itself, at the pace of the client.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from functools import partial
from math import inf
from threading import get_ident
from typing import Any, Final

import anyio
from anyio.lowlevel import checkpoint

from flexmw.idempotency import errors, running
from flexmw.idempotency.claim import Claim
from flexmw.idempotency.claim_writes import conclude_attempt, persist_in_time, persist_outcome, write_outcome
from flexmw.idempotency.client_connection import ClientConnection, ClientGone
from flexmw.idempotency.client_watch import ClientWatch
from flexmw.idempotency.completion import Completion, after_response, at_the_end, is_end_held
from flexmw.idempotency.delivery import LAST_SECONDS, Delivery
from flexmw.idempotency.execution import Execution, current
from flexmw.idempotency.handover import READY, REFUSED
from flexmw.idempotency.heartbeats import LoopHeartbeats
from flexmw.idempotency.held_end import HeldEnd
from flexmw.idempotency.log_writer import LogWriter, log_writer
from flexmw.idempotency.plan import Plan
from flexmw.idempotency.reading import RequestBody
from flexmw.idempotency.recording import ResponseRecorder
from flexmw.idempotency.response_head import NO_RETRY, RESULT, hide_file_bodies, is_stream, response_log, write_head
from flexmw.idempotency.sdk_calls import SdkAttempt
from flexmw.idempotency.side_tasks import AsyncioTasks, SideTasks, TrioTasks, current_task
from flexmw.idempotency.signals import DONE, Signal
from flexmw.kit.asgi import ASGIApp, Message, Scope
from flexmw.kit.exchange import Exchange

__all__ = ["ClaimedExecution"]

_LOGGER: Final = logging.getLogger("flexmw.idempotency")


class ClaimedExecution:
    """One execution of the app under a claim. Used once.

    :param body: the whole body of the request. Its bytes are given back when the app has got it.
    :param client: the connection to the client of the request.
    :param key: the key as the caller wrote it; ``None`` when the request has none.
    :param is_anonymous: the caller has shown no credential.
    :ivar side_tasks: what runs beside the app.
    """

    # Defaults of the class, because most executions set few of them.
    _completion: Completion | None = None
    _delivery: Delivery | None = None
    _held: HeldEnd | None = None
    _log_writer: LogWriter | None = None
    _watch: ClientWatch | None = None
    _has_body = _is_unwanted = _is_stopped = False
    _unwritten: float | None = inf
    """``None``: the outcome is written. Otherwise the seconds that a request may still wait for that."""

    def __init__(
        self,
        plan: Plan,
        claim: Claim,
        scope: Scope,
        exchange: Exchange,
        body: RequestBody,
        client: ClientConnection,
        key: str | None,
        is_anonymous: bool,
    ) -> None:
        self._plan, self._claim, self._scope, self._exchange = plan, claim, scope, exchange
        self._body: RequestBody | None = body
        self._client, self._key, self._is_anonymous = client, key, is_anonymous
        self._recorder = ResponseRecorder(plan.max_body)
        self._over = Signal()
        """Set when the app may receive a disconnect: after its response, or when nobody wants the response."""
        self._thread = get_ident()

    def run(self, attempt: SdkAttempt | None) -> Coroutine[Any, Any, None]:
        """Run the app, and raise what it raises.

        :param attempt: the call of an SDK that this request belongs to.
        """
        self._attempt = attempt
        task = current_task()
        if task is None:
            return self._run_in_trio()
        self.side_tasks: SideTasks = AsyncioTasks(task)
        return self._run()

    async def _run_in_trio(self) -> None:
        error: BaseException | None = None
        async with anyio.create_task_group() as group:
            self.side_tasks = TrioTasks(group)
            try:
                await self._run()
            except BaseException as raised:  # the task group would wrap it in an exception group
                error = raised
        if error is not None:
            raise error

    async def _run(self) -> None:
        record, scope, attempt = self._claim.record, self._scope, self._attempt
        execution = Execution(self._key, record.attempt, record.steps, self._claim.record_steps, self._exchange)
        if scope.get("extensions"):
            hide_file_bodies(scope)
        token = current.set(execution)
        error: BaseException | None = None
        running.add(record.generation, self)
        heartbeats = self._plan.heartbeats.of_loop()
        heartbeats.add(self._claim, self.stop)
        side_tasks, is_late, lifespans = self.side_tasks, False, self._plan.lifespans
        app = lifespans.open_app or lifespans.app_of(self._thread)
        try:
            if attempt is not None or self._plan.linger is not None:
                self._watch_client()
            try:
                with side_tasks:
                    await app(scope, self._receive, self._send)
            except BaseException as raised:
                error = raised
            self._over.set()
            if self._held is not None:
                error = await self._held.conclude(error)
            if self._is_stopped and error is None and self._completion is None:
                error = errors.ExecutionEnded()
            is_written = await self._conclude(error)
            if side_tasks.is_cut_off and type(error) is anyio.get_cancelled_exc_class():
                error = errors.ExecutionEnded()
            if self._delivery is not None:
                await self._delivery.done.wait()
            if not is_written:
                # The client has its response, or gets it when this call ends: neither waits for the store any longer.
                is_late = True
                self._plan.late_outcomes.add(self._write_late, partial(self._let_go, heartbeats, record.generation))
            elif attempt is not None:
                await conclude_attempt(attempt, self._completion, is_gone=self._client.is_gone)
        finally:
            if not is_late:
                self._let_go(heartbeats, record.generation)
            current.reset(token)  # raises where the coroutine was closed in another context
            if side_tasks.have_begun:
                await side_tasks.end()
            self._watch = None  # breaks a reference cycle
        if error is not None:
            raise error
        if self._client.failure is not None:
            raise self._client.failure

    async def _receive(self) -> Message:
        """``receive`` of the app: the whole body at once, and a disconnect only after the response."""
        if self._body is not None:
            body, self._body = self._body, None
            body.let_go()
            return {"type": "http.request", "body": body.take(), "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    def _send(self, message: Message) -> Awaitable[None]:
        """``send`` of the app. Not a coroutine: most chunks of a stream are sent when they come."""
        delivery = self._delivery
        if delivery is not None and (write := delivery.write) is not None:
            run = delivery.run_in_context  # Python 3.11 looks a called attribute up in the class, a variable not
            awaited = run(write, message)
            if awaited is READY:
                return DONE
            if awaited is not REFUSED:
                delivery.leave(awaited)
                return delivery.catch_up()
        return self._send_any(message)

    async def _send_any(self, message: Message) -> None:
        """Send a message. After a complete or a failed response, nothing that the app sends changes it."""
        delivery, recorder, message_type = self._delivery, self._recorder, message["type"]
        if self._held is not None and message_type != "http.response.start":
            await self._held.send()  # trailers follow the end of the body
        if self._completion is not None:
            pass
        elif recorder.has_failed:
            return
        elif self._is_unwanted:
            raise ClientGone
        elif message_type == "http.response.body" and recorder.started:
            data = message.get("body", b"")
            if type(data) is not bytes:
                data = bytes(data)
            if not message.get("more_body", False):
                await (self._finish(message, data) if self._has_body or not data else self._complete(message, data))
            elif delivery is None:
                await self._send_part(message, data)
            elif recorder.received + len(data) > self._plan.max_body:
                await self._outgrow()
                await self._send_part(message, data)
            elif recorder.add(data):
                delivery.put()
                await delivery.catch_up()
            return
        elif message_type == "http.response.start" and (not recorder.started or recorder.takes_more(message)):
            plan, generation = self._plan, self._claim.record.generation
            is_keyed, is_anonymous = self._key is not None, self._is_anonymous
            head = write_head(message, recorder, plan, self._scope, self._exchange, generation, is_keyed, is_anonymous)
            await self._client.send_head(head)
            recorder.frame(self._exchange.stream)
            if self._watch is not None and recorder.is_framed:
                self._watch.frame()
            return
        await self._client.send(message)

    async def _send_part(self, message: Message, data: bytes) -> None:
        """Send a part of the body in the app's own task, or begin the delivery of a stream."""
        recorder = self._recorder
        if not self._has_body:
            self._has_body = True
            if is_stream(recorder) and len(data) <= self._plan.max_body:
                self._begin_delivery()
        units = recorder.add(data)
        if self._delivery is not None and units:
            await self._delivery.catch_up()
        elif units or not recorder.size:
            # Some servers send the head with the first body message, so a part that is held back is an empty message.
            await self._client.send(message if units is data else {**message, "body": units})

    def _begin_delivery(self) -> None:
        plan, recorder, claim = self._plan, self._recorder, self._claim
        log = recorder.log = response_log(plan, recorder, claim.record.generation)
        plan.logs.add(claim.name, log)
        self._delivery = Delivery(self._client, recorder, log)
        self._delivery.cancel = self.side_tasks.start(self._delivery.run, self._delivery.end)
        if self._client.has_left:
            self.side_tasks.start(self._delivery.give_up)
        self._log_writer = log_writer(claim, log, plan.claims.clock) if plan.copies_logs else None
        if self._log_writer is not None:
            self.side_tasks.start(self._log_writer.run)
        self._watch_client()

    async def _outgrow(self) -> None:
        """The body is too long to be kept. The app's own task sends the rest of it, at the pace of the client."""
        delivery = self._delivery
        if delivery is not None:
            delivery.close()
            await delivery.done.wait()
            self._delivery = None
            self._recorder.drop()
            if self._client.has_left:
                self._end_unread()

    async def _finish(self, message: Message, data: bytes) -> None:
        """Take the last part of a body of several parts, or an empty body, from the app."""
        # FastAPI ends the stream of a producer that has raised as if it were complete, and then cancels this task. The
        # checkpoint lets the cancellation in before half a response is stored as a whole one.
        await checkpoint()
        if self._has_body and not data and self._recorder.is_open and not is_end_held(self._recorder, self._exchange):
            self._over.set()
            self._held = HeldEnd(message, self._complete, self.side_tasks)
        else:
            await self._complete(message, data)

    async def _complete(self, message: Message, data: bytes) -> None:
        """Send the last part of the body, once the response is stored."""
        recorder = self._recorder
        if recorder.has_failed:
            return
        end = recorder.finish(data)
        completion = after_response(recorder, self._exchange, is_anonymous=self._is_anonymous)
        self._end_with(completion)
        attempt = None if self._client.is_gone else self._attempt
        unwritten = await write_outcome(self._claim, completion, self._exchange, attempt)
        self._unwritten = None if unwritten is None else unwritten.seconds
        final = message if end is data else {**message, "body": end}
        if self._delivery is None:
            await self._client.send(final)
        else:
            self._delivery.close(final)
            # An instrument inside the app ends its span when this method returns, so the end is sent before.
            with anyio.move_on_after(LAST_SECONDS):
                await self._delivery.done.wait()
        if recorder.log is not None and not is_end_held(recorder, self._exchange):
            recorder.end_log()
        self._over.set()

    def _end_with(self, completion: Completion) -> None:
        self._completion = completion
        self._exchange.facts[RESULT] = completion.result

    async def _conclude(self, error: BaseException | None) -> bool:
        """Write the outcome of the execution to the key. Returns False where the store has not taken it yet.

        :param error: what the app has raised. ``None``: it has returned.
        """
        completion, recorder = self._completion, self._recorder
        if self._delivery is not None:
            self._delivery.close()
        if self._is_unwanted and (
            error is None or (isinstance(error, Exception) and self._exchange.map_exception(error).gone)
        ):
            error = errors.ExecutionEnded()
        if error is not None and not isinstance(error, Exception):
            if completion is None:
                self._exchange.facts[RESULT] = "unknown"
                with suppress(Exception):
                    await self._claim.lapse()
                self._recorder.break_log()  # before the client, which may never read, has got its part
            if completion is None or isinstance(error, GeneratorExit):  # a closed coroutine cannot wait for the store
                return True
        elif error is not None or completion is None:
            is_held, is_anonymous = is_end_held(recorder, self._exchange), self._is_anonymous
            last, exchange = completion, self._exchange
            completion = at_the_end(last, error, recorder, exchange, is_end_held=is_held, is_anonymous=is_anonymous)
            if completion is not last:
                self._end_with(completion)
                self._unwritten = inf
                is_error = not completion.released and completion.response.status >= 500
                if error is not None and is_error and not recorder.started:
                    exchange.headers.append(NO_RETRY)
        is_written = self._unwritten is None
        if self._unwritten is not None:
            claims = self._plan.claims
            seconds = min(self._unwritten, self._plan.store_timeout, claims.lease)
            is_written = await persist_in_time(self._claim, claims, completion, self._exchange, seconds=seconds)
        if recorder.log is not None:
            recorder.end_log(completion.last_unit)
        return is_written

    async def _write_late(self) -> bool:
        """Write the outcome that the store did not take in time. Returns whether the store has it."""
        claims, completion = self._plan.claims, self._completion
        assert completion is not None  # noqa: S101 - there is an outcome
        is_written = await persist_outcome(self._claim, claims, completion, self._exchange, patience=claims.lease)
        if self._attempt is not None:
            await conclude_attempt(self._attempt, self._completion, is_gone=self._client.is_gone)
        return is_written

    def _let_go(self, heartbeats: LoopHeartbeats, generation: str) -> None:
        """Let go of the key and of the readers of an execution that is over, or was cut off."""
        heartbeats.remove(self._claim)
        running.remove(generation)
        if (log := self._recorder.log) is not None:
            self._recorder.break_log()
            self._plan.logs.remove(self._claim.name, log)

    def _watch_client(self) -> None:
        """Notice that the client leaves."""
        if self._watch is None:
            self._watch = ClientWatch(
                self._plan,
                self._client,
                self._recorder,
                is_over=lambda: self._over.is_set,
                is_keyed=self._key is not None,
                on_leave=self._let_client_leave,
                on_unread=self._end_unread,
            )
            self.side_tasks.begin(self._watch.run)

    def _let_client_leave(self) -> None:
        if self._log_writer is not None:
            self._log_writer.hurry()
        if self._delivery is not None:
            self.side_tasks.start(self._delivery.give_up)

    def _end_unread(self) -> None:
        """Nobody reads the response, and nobody can. Send the app a disconnect."""
        if self._completion is None and self._held is None and not self._is_unwanted:
            _LOGGER.info("The app receives a disconnect, because nobody reads its response any more")
            self._disconnect()

    def stop(self) -> bool:
        """End the execution: the app receives a disconnect and is cancelled.

        Returns False, and does nothing, where the response is complete or another thread runs the event loop.
        """
        if self._completion is not None or self._thread != get_ident():
            return False
        if not self._is_stopped:
            self._is_stopped = True
            self._disconnect()
            self.side_tasks.cancel()
        return True

    def cut_off(self, app: ASGIApp) -> bool:
        """Cancel the execution with its app, which ends. Returns False for one of another app or event loop."""
        return self._plan.app is app and self._thread == get_ident() and self.side_tasks.cut_off()

    def _disconnect(self) -> None:
        self._is_unwanted = True
        if self._delivery is not None:
            self._delivery.close()
        self._over.set()
