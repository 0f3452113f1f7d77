"""The least that a promise can cost: stand-ins by hand, to measure beside the components.

A keyed POST on each store costs its own driver, without a middleware. ``redis``: two scripts by ``redis.asyncio``, one
that claims the key and one that stores the response. ``sqlite``: two durable transactions in a row, on one connection,
in the thread of the event loop. ``memory``: a hand-written middleware over a dict, which knows neither leases nor
callers nor streams.

A limited request costs a middleware that counts the hashed key of a caller in a bounded dict, leaves three headers on
the exchange of flexmw, and forgets a key that the app refuses. The memory of a decision costs the dict alone.
"""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections.abc import Awaitable, Callable
from hashlib import blake2b, sha256
from pathlib import Path
from threading import Lock
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from flexmw.errors import RateLimitExceeded
from flexmw.kit.asgi import send_error
from flexmw.kit.exchange import KEY, REFUSALS, new_exchange, too_late
from flexmw.kit.merged_headers import expect_headers

__all__ = ["counting_floor", "dict_floor", "limiter_floor", "redis_floor", "sqlite_floor"]

Step = Callable[[], Awaitable[None]]

ENTRY: Final = (
    b'{"phase":"done","status":200,"headers":[["content-type","application/json"]],"body":"' + b"x" * 120 + b'"}'
)
CLAIM: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = redis.call('HMGET', KEYS[1], 'token', 'until', 'entry')
if held[1] then return {0, held[1], held[2], held[3]} end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'until', now + ARGV[2], 'entry', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {1}
"""
SETTLE: Final = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return {0} end
redis.call('HSET', KEYS[1], 'token', ARGV[2], 'until', 0, 'entry', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {1}
"""
_numbers = itertools.count()


def redis_floor(url: str) -> tuple[dict[str, Step], Callable[[], Awaitable[None]]]:
    """What a first execution, a replay and a refused duplicate ask of redis; and a function that closes the client."""
    pool = BlockingConnectionPool.from_url(
        url, max_connections=64, timeout=5, retry=Retry(NoBackoff(), 0), socket_timeout=5
    )
    client = Redis(connection_pool=pool)
    claim, settle = client.register_script(CLAIM), client.register_script(SETTLE)

    async def first() -> None:
        key = f"floor:{next(_numbers)}"
        assert (await claim(keys=[key], args=["a", 60_000, 86_400_000, ENTRY[:60]]))[0] == 1
        assert (await settle(keys=[key], args=["a", "b", 86_400_000, ENTRY]))[0] == 1

    async def again() -> None:
        await claim(keys=["floor:again"], args=["a", 60_000, 86_400_000, ENTRY])

    return {"first": first, "replay": again, "duplicate": again}, client.aclose


def sqlite_floor(path: Path) -> tuple[dict[str, Step], Callable[[], Awaitable[None]]]:
    """What a first execution and a replay ask of a sqlite file; and a function that closes the file."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in ("pragma journal_mode = wal", "pragma synchronous = full"):
        connection.execute(statement)
    connection.execute("create table floor (key text primary key, token text, entry blob, until real) without rowid")

    async def first() -> None:
        key = f"floor:{next(_numbers)}"
        connection.execute("begin immediate")
        connection.execute("select token from floor where key = ?", (key,)).fetchone()
        connection.execute("insert or replace into floor values (?, ?, ?, ?)", (key, "a", ENTRY[:60], 1.0))
        connection.execute("commit")
        connection.execute("begin immediate")
        connection.execute("select token from floor where key = ?", (key,)).fetchone()
        connection.execute("insert or replace into floor values (?, ?, ?, ?)", (key, "b", ENTRY, 0.0))
        connection.execute("commit")

    async def again() -> None:
        connection.execute("select token, entry, until from floor where key = 'floor:0'").fetchone()

    async def close() -> None:
        connection.close()

    return {"first": first, "replay": again, "duplicate": again}, close


def dict_floor(app: Any) -> Any:
    """A middleware by hand: a dict of the responses by key and body."""
    stored: dict[bytes, tuple[bytes, list[Any] | None]] = {}

    async def protected(scope: Any, receive: Any, send: Any) -> None:
        key = dict(scope.get("headers", ())).get(b"idempotency-key")
        if scope["type"] != "http" or key is None:
            await app(scope, receive, send)
            return
        message = await receive()
        body = message["body"]
        while message.get("more_body"):
            message = await receive()
            body += message["body"]
        digest = sha256(scope["path"].encode() + body).digest()
        record = stored.get(key)
        if record is not None:
            if record[0] == digest and record[1] is not None:
                for kept in record[1]:
                    await send(kept)
                return
            await send({"type": "http.response.start", "status": 409 if record[0] == digest else 422, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        stored[key] = (digest, None)
        messages: list[Any] = []

        async def keep(message: Any) -> None:
            messages.append(message)
            if not message.get("more_body") and message["type"] == "http.response.body":
                stored[key] = (digest, messages)
            await send(message)

        unread = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> Any:
            return unread.pop() if unread else await receive()

        await app(scope, receive_again, keep)

    return protected


def limiter_floor(app: Any, limit: int = 100_000_000, window: float = 60.0) -> Any:
    """A limiter by hand that promises what RateLimit promises of one window on memory.

    The hash of the caller's key is remembered while few callers come. A sliding window of two counters is in one of two
    generations of a dict under a lock, so their number is bounded. The headers and the facts are on the exchange: the
    headers replace none of the response, and are on a late 404 or 500 of whoever makes it. A 401 or 403 of the app, as
    a response or as an exception, forgets the key. A refusal is an error of the contract with its wait.

    It knows neither addresses nor proxies, routes, exemptions, events, several windows and a clock that is set.

    :param limit: requests of a caller in a window.
    :param window: seconds.
    """
    hasher = blake2b(key=b"a label", digest_size=16)
    keys: dict[bytes, str] = {}
    young: dict[str, tuple[float, int, int]] = {}
    old = young
    turns_at = 0.0
    lock = Lock()
    acquire, release = lock.acquire, lock.release
    limit_header = b"x-ratelimit-limit-requests", b"%d" % limit
    expect_headers(limit_header[0], b"x-ratelimit-remaining-requests", b"x-ratelimit-reset-requests")
    facts: dict[str, str | int | float | bool] = {
        "flexmw.rate_limiting.result": "acquired",
        "flexmw.rate_limiting.policy": f"{limit} in {window:g} s",
        "flexmw.rate_limiting.limit": limit,
    }

    def digest_of(key: bytes) -> str:
        own = hasher.copy()
        own.update(key)
        if len(keys) >= 4_096:
            keys.clear()
        digest = keys[key] = own.hexdigest()
        return digest

    def judge(digest: str, status: int) -> None:
        if status in REFUSALS:
            keys.clear()

    async def limited(scope: Any, receive: Any, send: Any) -> None:
        nonlocal young, old, turns_at
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        key = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                key = value
                break
        digest, now = keys.get(key) or digest_of(key), time.monotonic()
        acquire()
        try:
            if now >= turns_at or len(young) >= 2_000_000:
                young, old, turns_at = {}, young, now + 2 * window
            end, count, previous = young.get(digest) or old.get(digest) or (0.0, 0, 0)
            if now >= end:
                end, count, previous = (end + window, 0, count) if now < end + window else (now + window, 0, 0)
            remaining = limit - count - 1
            if previous:
                remaining -= int(previous * (end - now) / window)
            if is_admitted := remaining >= 0:
                young[digest] = end, count + 1, previous
        finally:
            release()
        exchange = scope.get(KEY) or new_exchange(scope)
        if not is_admitted:
            await send_error(scope, send, RateLimitExceeded(end - now), app)
            return
        exchange.headers += (
            limit_header,
            (b"x-ratelimit-remaining-requests", b"%d" % remaining),
            (b"x-ratelimit-reset-requests", b"%d" % (int(time.time() + end - now) + 1)),
        )
        exchange.facts |= facts
        exchange.facts["flexmw.rate_limiting.remaining"] = remaining
        try:
            if exchange.headers_claimed:
                await app(scope, receive, send)
                if exchange.error_outcome is not None:
                    judge(digest, exchange.error_outcome.status)
                return
            exchange.known, exchange.headers_claimed, exchange.judged_key = 3, True, (judge, digest)
            exchange.forward, send = send, exchange.send
            try:
                await app(scope, receive, send)
            finally:
                exchange.headers_claimed, exchange.forward, exchange.judged_key = False, too_late, None
        except Exception as error:
            judge(digest, exchange.map_exception(error).status)
            raise

    return limited


def counting_floor(digests: list[str]) -> Callable[[str], None]:
    """The memory of a decision alone: a dict with the end of a window and a count for each caller.

    :return: a function that counts one more request of a caller.
    """
    windows = {digest: (1e9 + number, 1000 + number) for number, digest in enumerate(digests)}

    def count(digest: str) -> None:
        end, number = windows[digest]
        windows[digest] = end, number + 1

    return count
