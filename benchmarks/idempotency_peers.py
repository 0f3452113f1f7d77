"""The public middlewares for idempotency keys that work with the Starlette of today, around the same app.

Looked for in the package index in November 2026: every distribution that says it is an ASGI, Starlette or FastAPI
middleware for idempotency keys. Left out, with the reason, are those in :data:`LEFT_OUT`.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

__all__ = ["LEFT_OUT", "peers"]

LEFT_OUT: Final = {
    "fastapi-idempotency-key 0.1 on redis": "refuses every replay with 422: it stores no fingerprint",
    "idemgate 0.1": "needs redis<8: pip cannot install it beside redis-py 8",
    "fastapi-idempotent 0.0.3": "a decorator of routes, no middleware; last release in 2022",
    "mobius-idempotence-library 0.2": "a decorator of routes, no middleware",
    "idemptx 0.2": "a decorator of routes, no middleware",
}

Wrap = Callable[[Any], Any]


def _client(url: str, stack: AsyncExitStack, *, decoded: bool = False) -> Any:
    from redis.asyncio import BlockingConnectionPool, Redis

    pool = BlockingConnectionPool.from_url(url, max_connections=64, timeout=5, decode_responses=decoded)
    client = Redis(connection_pool=pool)
    stack.push_async_callback(client.aclose)
    return client


def _asgi_idempotency_header(store: str, at: Any, stack: AsyncExitStack) -> Wrap | None:
    from idempotency_header_middleware import IdempotencyHeaderMiddleware
    from idempotency_header_middleware.backends import MemoryBackend, RedisBackend

    if store == "sqlite":
        return None
    backend: Any = RedisBackend(_client(at, stack)) if store == "redis" else MemoryBackend()
    return lambda app: IdempotencyHeaderMiddleware(app, backend)


def _fastapi_idempotency(store: str, at: Any, stack: AsyncExitStack) -> Wrap | None:
    from fastapi_idempotency import IdempotencyMiddleware

    return None if store != "memory" else lambda app: IdempotencyMiddleware(app)


def _fastapi_idempotency_key(store: str, at: Any, stack: AsyncExitStack) -> Wrap | None:
    from fastapi_idempotency_key import IdempotencyMiddleware
    from fastapi_idempotency_key.backends import MemoryBackend, SQLiteBackend

    if store == "redis":
        return None
    backend: Any = SQLiteBackend(Path(at) / "fastapi_idempotency_key.db") if store == "sqlite" else MemoryBackend()
    if store == "sqlite":
        stack.push_async_callback(backend.close)
    return lambda app: IdempotencyMiddleware(app, backend=backend)


def _fastidempotent(store: str, at: Any, stack: AsyncExitStack) -> Wrap | None:
    from fastidempotent import IdempotencyMiddleware, MemoryBackend
    from fastidempotent.backends.redis import RedisBackend

    if store == "sqlite":  # needs sqlalchemy
        return None
    backend: Any = RedisBackend(client=_client(at, stack, decoded=True)) if store == "redis" else MemoryBackend()
    return lambda app: IdempotencyMiddleware(app, backend=backend, optional=True)


def _ichido(store: str, at: Any, stack: AsyncExitStack) -> Wrap | None:
    from ichido import IchidoMiddleware, RedisIdempotencyStore

    return (
        None if store != "redis" else lambda app: IchidoMiddleware(app, store=RedisIdempotencyStore(_client(at, stack)))
    )


def _idemkit(store: str, at: Any, stack: AsyncExitStack) -> Wrap | None:
    from idemkit import HttpConfig, IdempotencyMiddleware, InMemoryBackend
    from idemkit.backends.redis import RedisBackend

    if store == "sqlite":
        return None
    backend: Any = RedisBackend(_client(at, stack)) if store == "redis" else InMemoryBackend()
    return lambda app: IdempotencyMiddleware(app, backend=backend, config=HttpConfig(scope_mode="single_tenant"))


_PEERS: Final = {
    "asgi-idempotency-header": ("idempotency_header_middleware", _asgi_idempotency_header),
    "fastapi-idempotency": ("fastapi_idempotency", _fastapi_idempotency),
    "fastapi-idempotency-key": ("fastapi_idempotency_key", _fastapi_idempotency_key),
    "fastidempotent": ("fastidempotent", _fastidempotent),
    "ichido": ("ichido", _ichido),
    "idemkit": ("idemkit", _idemkit),
}


def peers(store: str, at: Any, stack: AsyncExitStack) -> dict[str, Wrap]:
    """The middlewares that are installed and have such a store.

    :param store: ``memory``, ``sqlite`` or ``redis``.
    :param at: the URL of the redis, or the folder of the sqlite files.
    :param stack: closes the stores.
    """
    wraps: dict[str, Wrap] = {}
    logging.getLogger("idemkit").setLevel(logging.ERROR)  # it warns of its own memory store
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (module, make) in _PEERS.items():
            if importlib.util.find_spec(module) is not None and (wrap := make(store, at, stack)) is not None:
                wraps[name] = wrap
    return wraps
