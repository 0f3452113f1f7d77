"""One protected request: read its body, claim its key, then run the app, replay the stored response, or refuse."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from math import inf
from typing import Final

import anyio
from anyio.lowlevel import checkpoint

from flexmw.contract.idempotent_stream import STREAM, StreamPosition
from flexmw.contract.sdk import RETRY_COUNT, parse_retry_count
from flexmw.errors import APIError, InvalidAPIKey
from flexmw.idempotency import errors
from flexmw.idempotency.claim import Claim, StoreFailed
from flexmw.idempotency.client_connection import ClientConnection
from flexmw.idempotency.continuation import Continuation, Running, running_response, send_stored, stream_position
from flexmw.idempotency.core import KeyedRequest, Reason, Refuse, Replay, StoredResponse
from flexmw.idempotency.execute import ClaimedExecution
from flexmw.idempotency.key import fingerprint, first_value, key_of
from flexmw.idempotency.lingering import show_interest
from flexmw.idempotency.plan import Plan
from flexmw.idempotency.prefer import preferred_wait
from flexmw.idempotency.reading import ReadResult, RequestBody, is_disconnected
from flexmw.idempotency.response_head import RESULT, announce_ttl
from flexmw.idempotency.sdk_calls import SdkAttempt, SdkRequest, claim_call
from flexmw.idempotency.stores.guarded import count_without_store
from flexmw.idempotency.uncancelled import run_to_completion
from flexmw.kit.app_function import finished
from flexmw.kit.asgi import Receive, Scope, Send, send_error
from flexmw.kit.exchange import ErrorOutcome, Exchange
from flexmw.kit.paths import RequestPredicate

__all__ = ["CREDENTIAL", "ProtectedRequest", "holds"]

CREDENTIAL: Final = "flexmw.idempotency.credential"
"""The span attribute of a request whose key and body another credential of the same address has used."""

_RETRY_AFTER: Final = 1.0
"""Seconds in the ``Retry-After`` of a 409 ``idempotency_in_progress``."""

_FIRST_POLL: Final = 0.01
_LONGEST_POLL: Final = 0.25
"""Seconds between two reads of a key that another process may work on. They grow from the first to the longest."""

_INTEREST_SECONDS: Final = 1.0
"""Seconds after which a waiting request shows the execution again that somebody wants its response."""

_LOOP_TURNS: Final = 5
"""Turns of the event loop after which a server that has read a request has also read that the connection ended."""

_STREAM: Final = STREAM.encode()
_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})

_CONTINUATION_RESULTS: Final = {400: "invalid", 410: "unknown", 422: "conflict", 503: "overloaded"}

_RESULTS: Final = {"reused": "conflict", "in_progress": "in_progress", "unknown": "unknown"}
"""The values of the span attribute for the reasons of a refusal."""


class ProtectedRequest:
    """One request. Used once.

    :param send: sends a response.
    :param send_body: sends the body of one whose head ``send`` has sent: the same without what ``send`` adds to heads.
    """

    # Defaults of the class, because most requests have no key, and set none of them.
    _client_left = False
    _is_anonymous = _is_named = False
    """Nothing but the client address is known of the caller; the option ``caller`` has named the caller."""
    _position: StreamPosition | None = None
    _running: Running | None = None
    _body: RequestBody
    _fields: Mapping[bytes, bytes]
    """The headers of the request by name."""

    def __init__(
        self, plan: Plan, scope: Scope, receive: Receive, send: Send, send_body: Send, exchange: Exchange
    ) -> None:
        self._plan, self._scope, self._receive, self._send = plan, scope, receive, send
        self._send_body, self._exchange = send_body, exchange

    async def run(self) -> None:
        """Respond to the request."""
        plan, scope, callers = self._plan, self._scope, self._plan.callers
        fields = self._fields = dict(scope["headers"])
        shown = callers.shown(scope)
        announce_ttl(self._exchange, plan.ttl_header if callers.has_function or shown.is_lasting else None)
        try:
            key = key_of(scope["headers"], fields, plan.key_headers)
        except ValueError as problem:
            await self._refuse(errors.KeyInvalid(str(problem), plan.header), "invalid")
            return
        if _STREAM in fields and scope["method"] not in _SAFE_METHODS:
            try:
                self._position = stream_position(scope, key, plan.header)
            except ValueError as problem:
                await self._refuse(errors.StreamInvalid(str(problem)), "invalid")
                return
        count = parse_retry_count(first_value(scope["headers"], fields, RETRY_COUNT)) if plan.sdk_retries else None
        if key is None and plan.required is not None and await holds(plan.required, scope, "required"):
            await self._refuse(errors.KeyRequired(plan.header), "required")
        elif key is None and count is None:
            await plan.app(scope, self._receive, self._send)
        elif plan.authenticated is not None and not await holds(plan.authenticated, scope, "authenticated"):
            await self._refuse(InvalidAPIKey(), "unauthenticated")
        else:
            caller, is_named = (
                await callers.digest(scope, shown)
                if callers.has_function
                else (callers.shown_digest(scope, shown), False)
            )
            self._is_named, self._is_anonymous = is_named, not (is_named or shown.lines)
            if is_named:
                announce_ttl(self._exchange, plan.ttl_header)
            elif not shown.is_lasting:
                announce_ttl(self._exchange, None)
            if key is None and self._is_anonymous:
                # Equal calls of all clients behind one address would be one call.
                plan.anonymous_sdk_calls.warn(retry_count=count or 0)
                await plan.app(scope, self._receive, self._send)
                return
            del shown  # objects that live while the app runs cost the garbage collector time
            body = self._body = RequestBody(self._receive, plan.bodies)
            try:
                result = await body.read(plan.max_request, fields.get(b"content-length", b""))
                if result != "whole":
                    await self._respond_unread(result, key)
                elif self._position is not None and key is not None:
                    await self._continue(self._name(caller, key), self._digest(), self._position)
                else:
                    work = self._work(caller, key, count or 0, self._digest())
                    await run_to_completion(work, self._client_has_left)
                    if self._running is not None and not self._client_left:
                        await self._follow(self._running, key)
            finally:
                body.let_go()

    async def _respond_unread(self, result: ReadResult, key: str | None) -> None:
        """Respond to a request whose body was not read to its end.

        :param result: how reading the body has ended.
        """
        if result == "left":
            self._client_left = True
        elif result == "too_many":
            await self._refuse(errors.TooManyBodies(), "overloaded")
        elif key is not None:
            await self._refuse(errors.BodyTooLarge(), "invalid")
        else:
            await self._plan.app(self._scope, self._body.receive_again, self._send)

    def _digest(self) -> str:
        """The hash of the request, for the store."""
        scope, fields = self._scope, self._fields
        content_type, coding = fields.get(b"content-type", b""), fields.get(b"content-encoding", b"")
        query = scope.get("query_string", b"")
        return self._plan.hasher.of_request(
            fingerprint(scope["method"], scope["path"], query, self._body.data, content_type, coding)
        )

    def _name(self, caller: str, key: str) -> str:
        """The store key of a key of a caller."""
        return f"{self._plan.callers.prefix(caller)}:k:{self._plan.hasher.of_key(key)}"

    async def _continue(self, name: str, digest: str, position: StreamPosition) -> None:
        """Respond to a continuation. It never runs the app."""
        self._body.let_go()
        respond = Continuation.respond
        error = await respond(
            self._plan, self._scope, self._receive, self._send, name=name, fingerprint=digest, position=position
        )
        if error is not None:
            await self._refuse(error, _CONTINUATION_RESULTS.get(error.status, "unknown"))

    async def _follow(self, running: Running, key: str | None) -> None:
        """Send a duplicate the response that another request is being sent."""
        self._body.let_go()
        error = await Continuation(self._plan, self._scope, self._receive, self._send, running, start=None).send()
        if isinstance(error, errors.StreamChanged | errors.StreamGone):  # it has ended otherwise a moment ago
            error = self._error("in_progress", key)
        if error is not None:
            await self._refuse(error, _CONTINUATION_RESULTS.get(error.status, "unknown"))

    async def _work(self, caller: str, key: str | None, count: int, digest: str) -> None:
        """The part that goes on when the client has left."""
        attempt: SdkAttempt | None = None
        outcome: Claim | Replay | Refuse | None = None
        if self._plan.late_outcomes.are_late:
            await self._plan.late_outcomes.resume()
        try:
            attempt, outcome = await self._claim(caller, key, count, digest)
        except StoreFailed as failure:
            self._exchange.emit("flexmw.idempotency.store_failed", {"exception": failure.__cause__})
            count_without_store(self._plan.claims.store)
            if not self._plan.runs_without_store:
                await self._refuse(errors.StoreOffline(), "store_error")
                return
        if outcome is None:
            self._exchange.facts[RESULT] = "store_error"
            announce_ttl(self._exchange, None)
            await self._plan.app(self._scope, self._body.receive_again, self._send)
        elif isinstance(outcome, Claim):
            if key is not None and not self._is_named and outcome.record.attempt == 1:
                self._notice_renewal(caller, key, digest)
            execution = ClaimedExecution(
                self._plan,
                outcome,
                self._scope,
                self._exchange,
                self._body,
                ClientConnection(self._receive, self._send, self._send_body, self._exchange),
                key,
                self._is_anonymous,
            )
            await execution.run(attempt)
        elif isinstance(outcome, Replay):
            if not self._client_left:
                await self._replay(outcome.response)
            if attempt is not None and not self._client_left:
                await attempt.mark(refused=False)
        elif self._running is None and not self._client_left:
            await self._refuse(self._error(outcome.reason, key), _RESULTS[outcome.reason])

    def _notice_renewal(self, caller: str, key: str, digest: str) -> None:
        plan = self._plan
        if plan.renewed.notice(plan.callers.address(self._scope), key, digest, caller):
            self._exchange.facts[CREDENTIAL] = "changed"

    async def _claim(
        self, caller: str, key: str | None, count: int, digest: str
    ) -> tuple[SdkAttempt | None, Claim | Replay | Refuse]:
        """Find the key of the request and claim it. Waits for the response of another request where that is wanted."""
        claims, plan = self._plan.claims, self._plan
        what = ""
        if "path" in plan.labels:
            what = f"{self._scope['method']} {_printable(self._scope['path'])}"[:200]
        if key is not None:
            name = self._name(caller, key)
            label = key if "key" in plan.labels else ""
            request = KeyedRequest(label, digest, claims.clock.now(), what)
            outcome = await claims.claim(name, request, ttl=claims.ttl)
            if type(outcome) is Claim or outcome != Refuse("in_progress"):
                return None, outcome
            patience, follows = self._patience()
            return None, await self._wait_for_response(
                outcome, name, request, ttl=claims.ttl, patience=patience, follows=follows
            )
        prefix, request_id = plan.callers.prefix(caller), self._request_id()
        calls, records = f"{prefix}:f:{digest[:40]}", f"{prefix}:r:"
        sdk_request = SdkRequest(calls, records, fingerprint=digest, retries=count, request_id=request_id, what=what)
        attempt, outcome = await claim_call(claims, sdk_request, self._has_left)
        if attempt is not None:
            outcome = await self._wait_for_response(
                outcome, attempt.name, attempt.request, ttl=attempt.ttl, patience=inf
            )
        return attempt, outcome

    async def _wait_for_response(
        self,
        outcome: Claim | Replay | Refuse,
        name: str,
        request: KeyedRequest,
        *,
        ttl: float,
        patience: float,
        follows: bool = False,
    ) -> Claim | Replay | Refuse:
        """Wait up to ``patience`` seconds while another request with the key runs.

        :param outcome: what a first attempt to claim the key has come to.
        :param follows: stop as soon as the response of the other request has begun: this request follows it.
        """
        claims, clock = self._plan.claims, self._plan.claims.clock
        if outcome != Refuse("in_progress") or patience <= 0:
            return outcome
        deadline, pause, shown_at = clock.monotonic() + patience, _FIRST_POLL, -inf
        failed: StoreFailed | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch)
            try:
                while outcome == Refuse("in_progress") and not self._client_left:
                    if follows and await self._has_begun(name):
                        break
                    if clock.monotonic() >= deadline:
                        break
                    await clock.asleep(min(pause, max(0.0, deadline - clock.monotonic())))
                    pause = min(pause * 1.5, _LONGEST_POLL)
                    if clock.monotonic() - shown_at >= _INTEREST_SECONDS:
                        shown_at = clock.monotonic()
                        with suppress(Exception):  # the guard around the store has logged it
                            await show_interest(self._plan, name)
                    outcome = await claims.claim(name, request, ttl=ttl, read_first=True)
            except StoreFailed as failure:  # a task group would wrap it in an exception group
                failed = failure
            group.cancel_scope.cancel()
        if failed is not None:
            raise failed
        return outcome

    def _patience(self) -> tuple[float, bool]:
        """The seconds that a duplicate waits while the first request runs, and whether it follows the response of that
        request."""
        plan = self._plan
        if plan.attaches_all:
            return inf, True
        values = [value.decode("latin-1") for name, value in self._scope["headers"] if name == b"prefer"]
        preferred = preferred_wait(values) if values else None
        return (plan.wait, False) if preferred is None else (max(plan.wait, preferred), True)

    async def _has_begun(self, name: str) -> bool:
        """Whether the request that holds the key has begun its response, so that a duplicate can follow it."""
        with suppress(Exception):  # the guard of the store has logged it, and the next claim fails by it
            self._running = await running_response(self._plan, name)
        return self._running is not None

    async def _has_left(self) -> bool:
        """Whether the client has left. A server that knows it needs a few turns of the event loop to say so."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch)
            for _ in range(_LOOP_TURNS):
                await checkpoint()
            group.cancel_scope.cancel()
        return self._client_left

    async def _watch(self) -> None:
        """Notice that the client has left. The whole body was read, so the next message is the disconnect."""
        with suppress(Exception):
            if not await is_disconnected(self._receive):
                return
        self._client_left = True

    def _request_id(self) -> str:
        """The hash of the ``x-request-id`` that a trusted proxy has given the request; empty without one.

        A proxy that repeats a request by itself sends the same id again.
        """
        value = first_value(self._scope["headers"], self._fields, b"x-request-id")
        if not value or not self._plan.callers.comes_through_proxy(self._scope):
            return ""
        return sha256(value).hexdigest()[:16]

    def _client_has_left(self) -> None:
        self._client_left = True

    async def _refuse(self, error: APIError, result: str) -> None:
        self._exchange.facts[RESULT] = result
        self._exchange.set_error(ErrorOutcome(error.status, error.type, error.code, source="idempotency"))
        await send_error(self._scope, self._send, error, self._plan.app)

    def _error(self, reason: Reason, key: str | None) -> APIError:
        """The error that a refused request gets."""
        if reason == "reused":
            return errors.KeyReused(self._plan.header)
        return (
            errors.KeyInProgress(_RETRY_AFTER) if reason == "in_progress" else errors.KeyUnknown(keyed=key is not None)
        )

    async def _replay(self, response: StoredResponse) -> None:
        if response.body is None:
            await self._refuse(errors.ResponseNotStored(response.status, response.size), "replayed")
            return
        self._exchange.facts[RESULT] = "replayed"
        await send_stored(self._scope, self._send, self._plan.app, response, response.body)


async def holds(predicate: RequestPredicate, scope: Scope, option: str) -> bool:
    """Whether a function of the scope, plain or async, returns true.

    :param option: the name of the option that holds the function.
    """
    return bool(await finished(predicate(scope), f"Idempotency({option}=...)"))


def _printable(path: str) -> str:
    """A path for an operator's terminal. Characters that move the cursor or change colours are written as escapes."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in path[:200])
