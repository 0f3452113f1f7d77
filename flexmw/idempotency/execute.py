"""Run the app once for a claimed key, and write the outcome to the store.

The response is recorded while it flows to the client. It is stored before its last part leaves, so a client that has
read the whole response can rely on its replay.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import anyio
from anyio.lowlevel import checkpoint

from flexmw.idempotency.claim import Claim, SdkAttempt
from flexmw.idempotency.completion import Completion, after_exception, after_response, stores, without_response
from flexmw.idempotency.execution import Execution, current
from flexmw.idempotency.outcome import is_bare
from flexmw.idempotency.plan import Plan
from flexmw.idempotency.recording import ResponseRecorder
from flexmw.idempotency.stores.guarded import guarded
from flexmw.kit.asgi import Message, Receive, Scope, Send
from flexmw.kit.clock import Clock
from flexmw.kit.exchange import Exchange, Header

__all__ = ["RESULT", "TTL_HEADER", "ClaimedExecution"]

RESULT: Final = "flexmw.idempotency.result"
"""The span attribute that says what happened to a request."""

_BEATS: Final = 3.0
"""Heartbeats in one lease. Two of them may be lost."""

_LONGEST_BEAT_PAUSE: Final = 1.0
"""Seconds after which a heartbeat that the store did not take is tried again."""

_FIRST_PAUSE: Final = 0.1
"""Seconds after which a failed write of the outcome is tried again. The pause doubles with each attempt."""

_CREDENTIAL_REFUSED: Final = frozenset({401, 403})
"""Statuses after which an SDK call is removed from the store: a caller who was not let in must not fill the store."""

_NO_RETRY: Final = (b"x-should-retry", b"false")

TTL_HEADER: Final = b"idempotency-key-ttl"
"""Announces that keys are honoured. A request that runs without the store must not have it in its response: the client
would rely on the key."""

_FILE_EXTENSIONS: Final = frozenset({"http.response.pathsend", "http.response.zerocopysend"})
"""ASGI extensions that send a body without showing it to middleware. They are hidden from the app, so that the body can
be recorded."""


class ClaimedExecution:
    """One execution of the app under a claim. Used once.

    :param body: the whole body of the request.
    :param is_anonymous: the caller has shown no credential.
    :param on_body: called when the app has got the body.
    """

    def __init__(
        self,
        plan: Plan,
        claim: Claim,
        scope: Scope,
        body: bytes,
        receive: Receive,
        send: Send,
        *,
        is_anonymous: bool = False,
        on_body: Callable[[], None] = lambda: None,
    ) -> None:
        self._plan, self._claim, self._scope = plan, claim, scope
        self._body: bytes | None = body
        self._is_anonymous, self._on_body = is_anonymous, on_body
        self._client = _Client(receive, send)
        self._exchange = Exchange.of(scope)
        self._recorder = ResponseRecorder(plan.max_body)
        self._responded = anyio.Event()
        self._completion: Completion | None = None
        self._is_written = False

    async def run(self, key: str | None, attempt: SdkAttempt | None) -> None:
        """Run the app, and raise what it raises.

        :param key: the key as the caller wrote it; ``None`` when the request has none.
        :param attempt: the call of an SDK that this request belongs to.
        """
        record, scope = self._claim.record, self._scope
        execution = Execution(
            key, attempt=record.attempt, steps=record.steps, record=self._claim.record_steps, owner=self._exchange
        )
        extensions = scope.get("extensions") or {}
        if _FILE_EXTENSIONS & extensions.keys():
            scope["extensions"] = {name: value for name, value in extensions.items() if name not in _FILE_EXTENSIONS}
        token = current.set(execution)
        error: BaseException | None = None
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_keep_lease, self._claim, self._plan.claims.clock, self._plan.claims.lease)
                if attempt is not None:
                    group.start_soon(self._client.watch, self._responded)
                try:
                    await self._plan.app(scope, self._receive, self._send)
                except BaseException as raised:
                    error = raised
                self._responded.set()
                await self._conclude(error)
                if attempt is not None:
                    refused = self._completion is not None and self._completion.released
                    if self._completion is not None and self._completion.response.status in _CREDENTIAL_REFUSED:
                        await attempt.forget()
                    elif refused or not self._client.is_gone:
                        await attempt.mark(refused=refused)
                group.cancel_scope.cancel()
        finally:
            current.reset(token)
        if error is not None:
            raise error
        if self._client.failure is not None:
            raise self._client.failure

    async def _receive(self) -> Message:
        """``receive`` of the app: the whole body at once, and a disconnect only after the response."""
        if self._body is not None:
            body, self._body = self._body, None
            self._on_body()
            return {"type": "http.request", "body": body, "more_body": False}
        await self._responded.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        """``send`` of the app. A complete response stands, whatever the app sends after it."""
        recorder, message_type = self._recorder, message["type"]
        if self._completion is not None:
            pass
        elif message_type == "http.response.start" and not recorder.started:
            message = self._start(message)
        elif message_type == "http.response.body" and recorder.started:
            recorder.add(message.get("body", b""))
            if not message.get("more_body", False):
                # FastAPI ends the stream of a producer that has raised as if it were complete, and then cancels this
                # task. The checkpoint lets the cancellation in before half a response is stored as a whole one.
                await checkpoint()
                self._end_with(after_response(recorder, self._exchange, is_anonymous=self._is_anonymous))
                await self._write()
                await self._client.send(message)
                self._responded.set()
                return
        await self._client.send(message)

    def _start(self, message: Message) -> Message:
        status: int = message["status"]
        headers: list[Header] = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
        self._recorder.start(status, headers)
        is_stored = stores(status, headers, self._exchange, is_anonymous=self._is_anonymous)
        self._exchange.facts[RESULT] = "stored" if is_stored else "released"
        names = {name.lower() for name, _ in headers}
        if self._is_anonymous and b"set-cookie" in names:
            # The next request brings the cookie, and so comes from another caller: the client must not rely on keys.
            held = self._exchange.headers
            held[:] = [pair for pair in held if pair[0] != TTL_HEADER]
        is_final = (is_stored and status >= 500) or (status == 409 and b"retry-after" not in names)
        if is_final and _NO_RETRY[0] not in names:
            headers.append(_NO_RETRY)
        return {**message, "headers": headers}

    def _end_with(self, completion: Completion) -> None:
        self._completion = completion
        self._exchange.facts[RESULT] = completion.result

    async def _conclude(self, error: BaseException | None) -> None:
        """Write the outcome of the execution to the key.

        :param error: what the app has raised. ``None``: it has returned.
        """
        completion, recorder = self._completion, self._recorder
        if error is not None and not isinstance(error, Exception):
            if completion is None:
                self._exchange.facts[RESULT] = "unknown"
                with suppress(Exception):
                    await self._claim.lapse()
            return
        # Frameworks respond to a crash with a bare 500 and raise. Envelope sends its own response instead of that 500.
        if error is not None and (
            completion is None or is_bare(completion.response, error, self._exchange, status=recorder.status)
        ):
            completion = after_exception(
                error, recorder, self._exchange, is_complete=completion is not None, is_anonymous=self._is_anonymous
            )
            self._end_with(completion)
            self._is_written = False
            if not completion.released and completion.response.status >= 500 and not recorder.started:
                self._exchange.headers.append(_NO_RETRY)
        elif completion is None:
            self._end_with(without_response(recorder, self._exchange))
        if not self._is_written:
            # A client that has its response does not notice how long the write takes, so the write is tried for as
            # long as the lease would have lasted. A client whose response is an exception still waits for it.
            lease = self._plan.claims.lease
            await self._persist(lease if error is None else min(self._plan.store_timeout, lease))

    async def _write(self) -> bool:
        """Write the completion to the store. Return whether the write succeeded."""
        try:
            with guarded(self._plan.claims.store):
                if self._completion is not None and self._completion.released:
                    await self._claim.release()
                elif self._completion is not None:
                    await self._claim.complete(self._completion.response)
        except Exception as failure:
            self._exchange.emit("flexmw.idempotency.store_failed", {"exception": failure})
            return False
        self._is_written = True
        return True

    async def _persist(self, patience: float) -> None:
        """Write the completion, and try again for ``patience`` seconds while the store does not respond."""
        clock, lease = self._plan.claims.clock, self._plan.claims.lease
        deadline, pause = clock.monotonic() + patience, _FIRST_PAUSE
        while not await self._write() and clock.monotonic() < deadline:
            await clock.asleep(pause)
            pause = min(pause * 2, lease / _BEATS)


class _Client:
    """The connection to the client, which may end while the app still works."""

    __slots__ = ("_receive", "_send", "failure", "is_gone")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self.is_gone = False
        self.failure: Exception | None = None
        """What ``send`` has raised. It is raised again when the work is finished."""

    async def send(self, message: Message) -> None:
        """Send a message, until sending fails. The work goes on after a failure."""
        if self.failure is not None:
            return
        try:
            await self._send(message)
        except OSError:
            self.is_gone = True
        except Exception as failure:
            self.is_gone = True
            self.failure = failure

    async def watch(self, responded: anyio.Event) -> None:
        """Notice that the client leaves before its response is complete. Such a client sends the request again."""
        with suppress(Exception):
            while (await self._receive())["type"] == "http.request":
                pass
        if not responded.is_set():
            self.is_gone = True


async def _keep_lease(claim: Claim, clock: Clock, lease: float) -> None:
    """The heartbeat: renew the lease until another attempt has taken the key over."""
    pause = lease / _BEATS
    while True:
        await clock.asleep(pause)
        pause = min(lease / _BEATS, _LONGEST_BEAT_PAUSE)
        with suppress(Exception):
            if not await claim.renew():
                return
            pause = lease / _BEATS
