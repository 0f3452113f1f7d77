"""The server face: one object for a wrapped app, one :class:`ProtectedRequest` for each request that it protects."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from flexmw.contract import CREDENTIALS
from flexmw.idempotency.claim import Claims
from flexmw.idempotency.execute import Plan
from flexmw.idempotency.execution import current
from flexmw.idempotency.request import ProtectedRequest
from flexmw.idempotency.stores.open import open_store
from flexmw.kit.asgi import ASGIApp, Message, Receive, Scope, Send
from flexmw.kit.exchange import Header
from flexmw.kit.identity import CallerHasher

if TYPE_CHECKING:
    from flexmw.idempotency.component import Idempotency

__all__ = ["IdempotencyApp"]

_CREDENTIALS: Final = tuple(name.encode() for name in CREDENTIALS)
_SESSION: Final = (b"cookie",)
"""Where a caller shows who it is; cookies only where there is nothing else, because some change with every answer. Two
callers behind one address, or behind one proxy that signs in for them, must never share answers."""


class IdempotencyApp:
    """An ASGI app whose protected requests are carried out once. Holds no state of any request."""

    def __init__(self, options: Idempotency, app: ASGIApp) -> None:
        self.app = app
        self._options = options
        self._callers = CallerHasher(
            pepper=options.pepper, trusted_proxies=options.trusted_proxies, option="Idempotency: "
        )
        self.store = open_store(
            options.storage,
            option="Idempotency(storage=...)",
            timeout=options.store_timeout,
            capacity=options.capacity,
            reach=options.on_store_failure is None,
            clock=options.clock,
        )
        claims = Claims(
            store=self.store,
            clock=options.clock,
            lease=options.lease,
            ttl=options.ttl,
            sdk_window=options.sdk_window,
            on_unknown=options.on_unknown,
        )
        self._plan = Plan(app=app, claims=claims, options=options, ttl_header=str(int(options.ttl)).encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        options = self._options
        if scope["type"] == "lifespan":
            await self.app(scope, receive, self._closing(send))
        elif (
            scope["type"] != "http"
            or scope["method"] not in options.methods
            or (options.exempt is not None and options.exempt(scope))
            or self._is_inner(scope)
        ):
            await self.app(scope, receive, send)
        else:
            await ProtectedRequest(self._plan, scope, receive, send).run(self.prefix(scope))

    def prefix(self, scope: Scope) -> str:
        """What the store keys of this caller begin with; one hash tag, so that they live on one node of a cluster."""
        return f"{self._options.prefix}:{{{self._caller(scope)}}}"

    def _caller(self, scope: Scope) -> str:
        named = self._options.caller(scope) if self._options.caller is not None else None
        if named:
            return blake2b(self._callers.of_key(named.encode()).digest.encode(), digest_size=16).hexdigest()
        identity = self._callers(scope)
        shown = _shown(scope, _CREDENTIALS) or _shown(scope, _SESSION)
        if not shown or (identity.kind == "key" and len(shown) == 1):
            return identity.digest
        parts = (b"%s:%d:%s" % (name, len(value), value) for name, value in shown)
        return self._callers.of_key(b"\n".join(parts)).digest

    @staticmethod
    def _is_inner(scope: Scope) -> bool:
        """Whether an Idempotency further outside has claimed this very request."""
        running = current.get()
        return running is not None and running.owner is not None and running.owner is scope.get("flexmw")

    def _closing(self, send: Send) -> Send:
        async def closing(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await self.store.aclose()
            await send(message)

        return closing


def _shown(scope: Scope, names: tuple[bytes, ...]) -> list[Header]:
    """The headers of these names, every line of them: HTTP/2 may split a cookie over several."""
    return [(name, value) for name, value in scope["headers"] if name in names and value]
