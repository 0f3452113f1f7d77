"""Carry a claimed request out: the app runs once, its answer is teed into the store while it flows to the client.

The answer is stored before its last part leaves: a client that has read it whole can rely on its replay.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import anyio
from anyio.lowlevel import checkpoint

from flexmw.contract import ErrorBody
from flexmw.errors import APIError
from flexmw.idempotency.claim import Claim, Claims
from flexmw.idempotency.core import Kept
from flexmw.idempotency.execution import Execution, current
from flexmw.idempotency.outcome import is_bare, is_held_back, response_to
from flexmw.idempotency.recording import Tee, crashed, keeps, rendered
from flexmw.kit.asgi import ASGIApp, Message, Receive, Scope, Send, raw_headers
from flexmw.kit.exchange import Exchange, Header

if TYPE_CHECKING:
    from flexmw.idempotency.component import Idempotency

__all__ = ["RESULT", "Mark", "Plan", "Running"]

RESULT: Final = "flexmw.idempotency.result"
_BEATS: Final = 3.0
"""Heartbeats in one lease: two may be lost."""

_AGAIN: Final = 0.1
_STOP: Final = (b"x-should-retry", b"false")
_BY_FILE: Final = frozenset({"http.response.pathsend", "http.response.zerocopysend"})
"""Extensions that send a body past this component; the app is told that the server lacks them."""


class Mark(Protocol):
    """Notes how the call of an SDK went."""

    async def __call__(self, *, refused: bool) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What all requests of one wrapped app have in common."""

    app: ASGIApp
    claims: Claims
    options: Idempotency
    ttl_header: bytes


class Running:
    """One execution."""

    def __init__(self, plan: Plan, claim: Claim, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        self._plan, self._claim, self._scope = plan, claim, scope
        self._body: bytes | None = body
        self._outer_receive, self._outer_send = receive, send
        self._exchange = Exchange.of(scope)
        self._tee = Tee(plan.options.max_body)
        self._finished = anyio.Event()
        self._gone = False
        self._failure: Exception | None = None
        self._outcome: Kept | None = None
        self._refused = False
        self._stored = False

    async def run(self, key: str | None, mark: Mark | None) -> None:
        """Run the app. Raises what it raises."""
        record = self._claim.record
        execution = Execution(
            key, attempt=record.attempt, steps=record.steps, record=self._claim.note, owner=self._exchange
        )
        if _BY_FILE & (self._scope.get("extensions") or {}).keys():
            self._scope["extensions"] = {
                name: value for name, value in self._scope["extensions"].items() if name not in _BY_FILE
            }
        token = current.set(execution)
        error: BaseException | None = None
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._beat)
                if mark is not None:
                    group.start_soon(self._watch)
                try:
                    await self._plan.app(self._scope, self._receive, self._send)
                except BaseException as thrown:
                    error = thrown
                self._finished.set()
                await self._conclude(error)
                if mark is not None and (self._refused or not self._gone):
                    await mark(refused=self._refused)
                group.cancel_scope.cancel()
        finally:
            current.reset(token)
        if error is not None:
            raise error
        if self._failure is not None:
            raise self._failure

    async def _receive(self) -> Message:
        """The app gets the whole body at once, and hears of no disconnect before it has answered."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._finished.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if self._outcome is not None:
            pass  # an answer that is whole stands, whatever the host sends after it
        elif kind == "http.response.start" and not self._tee.started:
            message = self._start(message)
        elif kind == "http.response.body" and self._tee.started:
            self._tee.add(message.get("body", b""))
            if not message.get("more_body", False):
                # A host whose producer has raised (FastAPI) ends its stream well and is then cancelled: here, before
                # half an answer is kept for the whole.
                await checkpoint()
                self._outcome, self._refused = self._judge_answer()
                self._exchange.facts[RESULT] = "released" if self._refused else "stored"
                await self._store()
                await self._forward(message)
                self._finished.set()
                return
        await self._forward(message)

    def _start(self, message: Message) -> Message:
        headers: list[Header] = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
        self._tee.start(message["status"], headers)
        status = message["status"]
        kept = self._keeps(status, headers, self._remembered(status))
        self._exchange.facts[RESULT] = "stored" if kept else "released"
        names = {name.lower() for name, _ in headers}
        if _STOP[0] not in names and ((kept and status >= 500) or (status == 409 and b"retry-after" not in names)):
            headers.append(_STOP)
        return {**message, "headers": self._exchange.complete(headers)}

    async def _forward(self, message: Message) -> None:
        """Pass a message on for as long as somebody takes it; the work goes on in any case."""
        if self._failure is not None:
            return
        try:
            await self._outer_send(message)
        except OSError:
            self._gone = True
        except Exception as failure:
            self._gone = True
            self._failure = failure

    def _remembered(self, status: int) -> APIError | None:
        """The APIError that the host turned into this answer, where Envelope will speak for it."""
        error = self._exchange.remembered
        return error if error is not None and status in (error.status, 500) else None

    def _keeps(self, status: int, headers: list[Header], error: APIError | None) -> bool:
        if error is not None:
            status, headers = error.status, [*headers, *raw_headers(error.headers)]
        return keeps(status, has_wait=any(name.lower() == b"retry-after" for name, _ in headers))

    def _judge_answer(self) -> tuple[Kept, bool]:
        """What is kept of a whole answer, and whether it was a refusal, of which nothing is."""
        tee = self._tee
        kept, error = tee.kept(), self._remembered(tee.status)
        if error is not None and kept.body is not None and ErrorBody.decode(kept.body) is not None:
            error = None  # an error of the contract that the host wrote itself stands
        refused = not self._keeps(tee.status, list(tee.headers), error)
        if error is not None and kept.body is not None:
            kept = rendered(error.status, error.body.encode(), (*raw_headers(error.headers), *tee.headers))
        return kept, refused

    async def _conclude(self, error: BaseException | None) -> None:
        """See to it that the key ends in a state that says what happened.

        Hosts answer a crash with a bare 500 and raise. Where something outside remembers errors (Envelope), it will
        answer that exception in place of the 500, so the exception's answer is what has to be kept. A 500 with words
        of the host's own stands.
        """
        if error is not None and not isinstance(error, Exception):
            if self._outcome is None:
                self._exchange.facts[RESULT] = "unknown"
                with suppress(Exception):
                    await self._claim.lapse()
            return
        if error is not None and (self._outcome is None or is_bare(self._outcome, error, status=self._tee.status)):
            self._outcome, self._refused = self._judge_error(error)
            self._stored = False
            self._exchange.facts[RESULT] = "released" if self._refused else "stored"
            if not self._refused and self._outcome.status >= 500 and not self._tee.started:
                self._exchange.headers.append(_STOP)
        elif self._outcome is None:
            self._outcome = self._tee.broken(_body(crashed())) if self._tee.started else crashed()
            self._exchange.facts[RESULT] = "stored"
        if not self._stored:
            options = self._plan.options
            await self._persist(options.lease if error is None else min(options.store_timeout, options.lease))

    def _judge_error(self, error: Exception) -> tuple[Kept, bool]:
        """What Envelope will answer to an exception of the app; without one, what it would by default."""
        status, body, headers = response_to(error, self._exchange)
        if (
            self._tee.started
            and self._outcome is None
            and not is_held_back(self._exchange, headers=self._tee.headers, size=self._tee.size)
        ):
            return self._tee.broken(body), False
        waits = any(name.lower() == b"retry-after" for name, _ in headers)
        return rendered(status, body, headers), not keeps(status, has_wait=waits)

    async def _store(self) -> bool:
        """Write the outcome once."""
        try:
            if self._refused:
                await self._claim.release()
            elif self._outcome is not None:
                await self._claim.settle(self._outcome)
        except Exception as failure:
            self._exchange.emit("flexmw.idempotency.store_failed", {"exception": failure})
            return False
        self._stored = True
        return True

    async def _persist(self, patience: float) -> None:
        """Write the outcome, again and again while the store is away. A client that has its answer does not notice, so
        that may last as long as the lease would have; one whose answer is an exception still waits for it."""
        clock = self._plan.options.clock
        ends, pause = clock.monotonic() + patience, _AGAIN
        while not await self._store() and clock.monotonic() < ends:
            await clock.asleep(pause)
            pause = min(pause * 2, self._plan.options.lease / _BEATS)

    async def _beat(self) -> None:
        options = self._plan.options
        while True:
            await options.clock.asleep(options.lease / _BEATS)
            with suppress(Exception):
                if not await self._claim.beat():
                    return

    async def _watch(self) -> None:
        """Notice a client that leaves before its answer is complete: it will ask again."""
        with suppress(Exception):
            while (await self._outer_receive())["type"] == "http.request":
                pass
        if not self._finished.is_set():
            self._gone = True


def _body(kept: Kept) -> bytes:
    return kept.body or b""
