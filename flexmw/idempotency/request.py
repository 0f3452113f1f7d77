"""One protected request, from its first byte to the last of its answer."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from hashlib import sha256
from math import inf
from typing import Final

import anyio
from anyio.lowlevel import checkpoint

from flexmw.errors import APIError
from flexmw.idempotency import errors
from flexmw.idempotency.claim import Claim, StoreFailed
from flexmw.idempotency.core import Ask, Kept, Reason, Refuse, Replay
from flexmw.idempotency.execute import RESULT, Mark, Plan, Running
from flexmw.idempotency.key import fingerprint, parse_key, retry_count
from flexmw.idempotency.uncancelled import finish
from flexmw.kit.asgi import Message, Receive, Scope, Send, send_error
from flexmw.kit.exchange import ErrorOutcome, Exchange
from flexmw.kit.identity import header

__all__ = ["ProtectedRequest"]

_HONOURED: Final = b"idempotency-key-ttl"
"""Says that keys are honoured. A request that runs without its store must not say so: the client would rely on it."""

_RETRY_AFTER: Final = 1.0
_FIRST_LOOK: Final = 0.01
_LAST_LOOK: Final = 0.25
"""Seconds between two looks at a key that another process may be working on: they grow from the one to the other."""

_STEPS: Final = 5
"""Turns of the event loop after which a server that has read a request has also read that the connection ended."""

_RESULTS: Final = {"reused": "conflict", "in_progress": "in_progress", "unknown": "unknown"}


class ProtectedRequest:
    """Reads the request, claims its key, and runs, replays or refuses."""

    def __init__(self, plan: Plan, scope: Scope, receive: Receive, send: Send) -> None:
        self._plan, self._scope, self._receive, self._send = plan, scope, receive, send
        self._exchange = Exchange.of(scope)
        self._gone = False
        self._body = b""
        self._more, self._unread = True, True

    async def run(self, prefix: str) -> None:
        """Answer the request. ``prefix`` begins the store keys of its caller."""
        self._honour(self._plan.ttl_header)
        options, scope = self._plan.options, self._scope
        try:
            key = parse_key([value for name, value in scope["headers"] if name == b"idempotency-key"])
        except ValueError as problem:
            await self._refuse(errors.KeyInvalid(str(problem)), "invalid")
            return
        count = retry_count(header(scope, b"x-stainless-retry-count")) if options.sdk_retries else None
        if key is None and (options.required(scope) if callable(options.required) else options.required):
            await self._refuse(errors.KeyRequired(), "required")
        elif key is None and count is None:
            await self._plan.app(scope, self._receive, self._complete)
        else:
            await self._protect(prefix, key, count)

    async def _protect(self, prefix: str, key: str | None, count: int | None) -> None:
        whole = await self._read()
        if self._gone:
            return
        if not whole:
            if key is not None:
                await self._refuse(errors.BodyTooLarge(), "invalid")
            else:
                await self._plan.app(self._scope, self._resumed, self._complete)
            return
        scope = self._scope
        kind = header(scope, b"content-type") or b""
        print_ = fingerprint(scope["method"], scope["path"], scope.get("query_string", b""), self._body, kind)
        await finish(partial(self._work, prefix, key, count or 0, print_), self._leave)

    async def _work(self, prefix: str, key: str | None, count: int, print_: str) -> None:
        """The part that goes on when the client is gone."""
        options = self._plan.options
        try:
            mark, outcome = await self._claimed(prefix, key, count, print_)
        except StoreFailed as failure:
            self._exchange.emit("flexmw.idempotency.store_failed", {"exception": failure.__cause__})
            if options.on_store_failure != "run":
                await self._refuse(errors.StoreOffline(), "store_error")
                return
            mark, outcome = None, None
        if outcome is None:
            self._exchange.facts[RESULT] = "store_error"
            self._honour(None)
            await self._plan.app(self._scope, self._resumed, self._complete)
        elif isinstance(outcome, Claim):
            running = Running(self._plan, outcome, self._scope, self._body, self._receive, self._send)
            await running.run(key, mark)
        elif isinstance(outcome, Replay):
            if not self._gone:
                await self._replay(outcome.kept)
            if mark is not None and not self._gone:
                await mark(refused=False)
        elif not self._gone:
            await self._refuse(self._error(outcome.reason, key), _RESULTS[outcome.reason])

    async def _claimed(
        self, prefix: str, key: str | None, count: int, print_: str
    ) -> tuple[Mark | None, Claim | Replay | Refuse]:
        """Find the key and claim it, waiting for another request's answer where that is wanted."""
        claims, options = self._plan.claims, self._plan.options
        what = f"{self._scope['method']} {_printable(self._scope['path'])}"[:200]
        if key is not None:
            name = f"{prefix}:k:{sha256(key.encode()).hexdigest()[:40]}"
            ask = Ask(key=key, fingerprint=print_, now=options.clock.now(), what=what)
            return None, await self._patiently(name, ask, ttl=options.ttl, patience=options.wait)
        calls = f"{prefix}:f:{print_[:40]}"
        call = await claims.call_of(calls, count, self._has_left)
        if call is None:
            return None, Refuse("in_progress")
        ask = Ask(key=call, fingerprint=print_, now=options.clock.now(), what=what)
        ttl = max(options.sdk_window, options.lease)
        outcome = await self._patiently(f"{prefix}:r:{call}", ask, ttl=ttl, patience=inf, look_first=count > 0)
        return partial(claims.mark, calls, call), outcome

    async def _patiently(
        self, name: str, ask: Ask, *, ttl: float, patience: float, look_first: bool = False
    ) -> Claim | Replay | Refuse:
        claims, clock = self._plan.claims, self._plan.options.clock
        outcome = await claims.claim(name, ask, ttl=ttl, look_first=look_first)
        if outcome != Refuse("in_progress") or patience <= 0:
            return outcome
        ends, pause = clock.monotonic() + patience, _FIRST_LOOK
        failed: StoreFailed | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch)
            try:
                while outcome == Refuse("in_progress") and not self._gone and clock.monotonic() < ends:
                    await clock.asleep(min(pause, max(0.0, ends - clock.monotonic())))
                    pause = min(pause * 1.5, _LAST_LOOK)
                    outcome = await claims.claim(name, ask, ttl=ttl, look_first=True)
            except StoreFailed as failure:  # a task group would raise it in a group
                failed = failure
            group.cancel_scope.cancel()
        if failed is not None:
            raise failed
        return outcome

    async def _has_left(self) -> bool:
        """Whether the client had left when the last of its body was read, or has since. A server that has both before
        it takes a few steps to tell."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch)
            for _ in range(_STEPS):
                await checkpoint()
            group.cancel_scope.cancel()
        return self._gone

    async def _watch(self) -> None:
        """Notice that the client has left: nobody waits for the answer then."""
        with suppress(Exception):
            await self._receive()
        self._gone = True

    def _error(self, reason: Reason, key: str | None) -> APIError:
        if reason == "reused":
            return errors.KeyReused()
        return errors.KeyInProgress(_RETRY_AFTER) if reason == "in_progress" else errors.KeyUnknown(key)

    async def _read(self) -> bool:
        """Read the body. ``False``: it is larger than what is held in memory, or the client left."""
        chunks: list[bytes] = []
        size = 0
        while self._more and size <= self._plan.options.max_request:
            message = await self._receive()
            if message["type"] != "http.request":
                self._gone = True
                return False
            self._more = message.get("more_body", False)
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
        self._body = b"".join(chunks)
        return size <= self._plan.options.max_request

    async def _resumed(self) -> Message:
        """``receive`` for a request that was read, in part or whole, and is not protected after all."""
        if self._unread:
            self._unread = False
            return {"type": "http.request", "body": self._body, "more_body": self._more}
        return await self._receive()

    async def _complete(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": self._exchange.complete(message.get("headers", ()))}
        await self._send(message)

    def _honour(self, ttl: bytes | None) -> None:
        """Say how long keys are honoured, or not at all: the innermost that looks at the request has the word."""
        said = [] if ttl is None else [(_HONOURED, ttl)]
        headers = self._exchange.headers
        headers[:] = [*(pair for pair in headers if pair[0] != _HONOURED), *said]

    def _leave(self) -> None:
        self._gone = True

    async def _refuse(self, error: APIError, result: str) -> None:
        self._exchange.facts[RESULT] = result
        self._exchange.set_error(ErrorOutcome(error.status, error.type, error.code, source="idempotency"))
        await send_error(self._scope, self._send, error)

    async def _replay(self, kept: Kept) -> None:
        if kept.body is None:
            await self._refuse(errors.AnswerNotKept(kept.status, kept.size), "replayed")
            return
        self._exchange.facts[RESULT] = "replayed"
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in kept.headers]
        headers.append((b"idempotent-replayed", b"true"))
        if kept.status >= 500:
            headers.append((b"x-should-retry", b"false"))
        await self._complete({"type": "http.response.start", "status": kept.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": kept.body})


def _printable(path: str) -> str:
    """A path for an operator's terminal: what would move its cursor or change its colours is written as an escape."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in path[:200])
