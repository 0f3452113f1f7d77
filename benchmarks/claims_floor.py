"""The least that a keyed POST can cost on flexmw's own store and claims: a middleware by hand around them.

It keeps what the store and the claims promise: keys of callers and fingerprints of requests as keyed hashes, leases and
heartbeats, unknown outcomes, claims that are given back, ``store_timeout`` and the breaker, the bounds of the file,
other processes, and work that goes on when the client has left. It knows no streams, no steps, no error responses of
apps, no retries of SDKs, no bounds of bodies, no options of a route, and no other component. What flexmw takes beyond
this floor is the cost of those.
"""

from __future__ import annotations

from typing import Any, Final

import flexmw
from flexmw.idempotency.claim import Claim
from flexmw.idempotency.continuation import send_stored
from flexmw.idempotency.core import KeyedRequest, Replay, StoredResponse
from flexmw.idempotency.key import fingerprint, parse_key
from flexmw.idempotency.planning import build_plan
from flexmw.idempotency.stored import lasting_headers
from flexmw.idempotency.stores.guarded import guarded
from flexmw.idempotency.uncancelled import run_to_completion

__all__ = ["ClaimsFloor"]

_KEY: Final = b"idempotency-key"


def _ignore() -> None: ...


class ClaimsFloor:
    """A middleware by hand over the claims of an Idempotency.

    :param app: the app.
    :param options: the options of the store and the claims.
    """

    def __init__(self, app: Any, options: flexmw.Idempotency) -> None:
        self._app, self._plan = app, build_plan(options, app)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        fields = dict(scope.get("headers", ()))
        if scope["type"] != "http" or _KEY not in fields:
            await self._app(scope, receive, send)
            return
        plan = self._plan
        key = parse_key((fields[_KEY],))
        assert key is not None
        message = await receive()
        body = message["body"]
        while message.get("more_body"):
            message = await receive()
            body += message["body"]
        caller = plan.callers.shown_digest(scope, plan.callers.shown(scope))
        name = f"{plan.callers.prefix(caller)}:k:{plan.hasher.of_key(key)}"
        digest = fingerprint(
            scope["method"], scope["path"], scope["query_string"], body, fields.get(b"content-type", b"")
        )
        request = KeyedRequest(key="", fingerprint=plan.hasher.of_request(digest), now=plan.claims.clock.now())
        await run_to_completion(self._work(scope, receive, send, name, request, body), _ignore)

    async def close(self) -> None:
        """Close the store."""
        await self._plan.claims.store.aclose()

    async def _work(self, scope: Any, receive: Any, send: Any, name: str, request: KeyedRequest, body: bytes) -> None:
        plan = self._plan
        claim = await plan.claims.claim(name, request, ttl=plan.claims.ttl)
        if isinstance(claim, Claim):
            heartbeats = plan.heartbeats.of_loop()
            heartbeats.add(claim, _ignore)
            try:
                await self._run(scope, receive, send, claim, body)
            finally:
                heartbeats.remove(claim)
        elif isinstance(claim, Replay):
            await send_stored(scope, send, self._app, claim.response, claim.response.body or b"")
        else:
            status = 422 if claim.reason == "reused" else 409
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    async def _run(self, scope: Any, receive: Any, send: Any, claim: Claim, body: bytes) -> None:
        unread = [{"type": "http.request", "body": body, "more_body": False}]
        parts: list[bytes] = []
        head: Any = None

        async def receive_again() -> Any:
            return unread.pop() if unread else await receive()

        async def keep(message: Any) -> None:
            nonlocal head
            if message["type"] == "http.response.start":
                head = message
                await send({**message, "headers": [*message["headers"], self._plan.ttl_header]})
                return
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                whole = b"".join(parts)
                headers = lasting_headers(head["headers"])
                response = StoredResponse(status=head["status"], headers=headers, body=whole, size=len(whole))
                with guarded(claim.store):
                    await claim.complete(response)
            await send(message)

        await self._app(scope, receive_again, keep)
