"""Stores as a version of flexmw leaves them: written by this program, read by ``tests/upgrade``.

``python -m scripts.store_fixtures tests/upgrade/written`` starts a redis-server, serves some requests, and writes
``keys.sqlite``, ``redis.json`` and ``version.json``. To write the stores of another revision, put its tree first on the
path: ``PYTHONPATH=<tree> python scripts/store_fixtures.py <folder>``. The program uses public names alone.

Each store holds a response, an event stream, an execution that a killed process has left, and, on redis, counts of
every strategy of RateLimit. All of them live for years.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import flexmw

__all__ = ["KILLED", "RESPONSE", "STRATEGIES", "STREAM", "TTL", "limited", "protected"]

TTL: Final = 8 * 365 * 86_400.0
"""Seconds that the keys live."""

STRATEGIES: Final = ("fixed-window", "sliding-window-counter", "moving-window", "gcra")
RATE: Final = "5/8year"

RESPONSE: Final = b'{"order": 1}'
STREAM: Final = tuple(b'data: {"part": %d}\n\n' % number for number in range(5))
KILLED: Final = "/killed"
"""The path whose execution ends with its process."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Sends one response, one event stream, or nothing until it is killed."""
    await receive()
    if scope["path"] == KILLED:
        await asyncio.sleep(3600)
    is_stream = scope["path"] == "/stream"
    media_type = b"text/event-stream" if is_stream else b"application/json"
    headers = [(b"content-type", media_type), (b"x-written-by", b"an app")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for part in STREAM if is_stream else (RESPONSE,):
        await send({"type": "http.response.body", "body": part, "more_body": is_stream})
    if is_stream:
        await send({"type": "http.response.body"})


def protected(storage: str, inner: Any = app) -> Any:
    """An app whose keys are kept in a store."""
    return flexmw.wrap_app(inner, flexmw.Envelope(), flexmw.Idempotency(storage=storage, ttl=TTL, lease=1.0))


def limited(storage: str, strategy: str, inner: Any = app) -> Any:
    """An app whose requests are counted in redis, also on a machine that stands still for seconds."""
    limiter = flexmw.RateLimit(RATE, storage=storage, strategy=strategy, store_timeout=60.0)
    return flexmw.wrap_app(inner, flexmw.Envelope(), limiter)


async def call(wrapped: Any, path: str, key: str) -> list[Any]:
    """Send one POST, and return the messages of the app."""
    sent: list[Any] = []
    body = iter([{"type": "http.request", "body": b'{"n": 1}', "more_body": False}])

    async def receive() -> Any:
        message = next(body, None)
        if message is None:
            await asyncio.sleep(3600)
        return message

    async def send(message: Any) -> None:
        sent.append(message)

    fields = {"host": "api.test", "content-type": "application/json", "content-length": "8"}
    headers = {**fields, "authorization": "Bearer sk-one", "idempotency-key": key}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("192.0.2.7", 50_000),
        "server": ("api.test", 80),
        "state": {},
        "extensions": {},
    }
    await wrapped(scope, receive, send)
    return sent


async def write(storage: str) -> None:
    """Serve the requests whose keys a store is to hold, and leave one of them running."""
    wrapped = protected(storage)
    await call(wrapped, "/response", "response")
    await call(wrapped, "/stream", "stream")
    running = asyncio.create_task(call(wrapped, KILLED, "killed"))
    await asyncio.sleep(0.5)  # longer than a claim takes; this program is run by hand
    if storage.startswith("redis"):
        for strategy in STRATEGIES:
            counted = limited(storage, strategy)
            for _ in range(3):
                await call(counted, "/response", "none")
    sys.stdout.flush()
    del running
    os._exit(0)  # as a killed process ends: without a word to its store


def dump(port: int) -> dict[str, Any]:
    """Read every key of a redis: its type, its remaining life, and its content by that type."""
    import redis

    readers: dict[str, tuple[Any, ...]] = {
        "string": ("GET",),
        "hash": ("HGETALL",),
        "list": ("LRANGE", 0, -1),
        "zset": ("ZRANGE", 0, -1, "WITHSCORES"),
        "set": ("SMEMBERS",),
    }
    with closing(redis.Redis.from_url(f"redis://127.0.0.1:{port}?protocol=2")) as client:
        found: dict[str, Any] = {}
        for key in sorted(client.scan_iter()):
            kind = client.type(key).decode()
            command, *arguments = readers[kind]
            content = _plain(client.execute_command(command, key, *arguments))
            found[key.hex()] = {"type": kind, "ttl_ms": client.pttl(key), "content": content}
        return found


def _plain(value: Any) -> Any:
    """A reply as JSON holds it: bytes as hexadecimal digits, a hash and a sorted set as a flat list."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return [_plain(part) for pair in value.items() for part in pair]
    if isinstance(value, tuple):
        member, score = value
        return [_plain(member), repr(score)]
    if isinstance(value, (list, set)):
        return [_plain(each) for each in value]
    return value


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath("keys.sqlite").unlink(missing_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as scratch:
        command = ["redis-server", "--port", str(port), "--save", "", "--dir", scratch]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            time.sleep(1.0)
            for storage in (f"sqlite:///{folder.resolve() / 'keys.sqlite'}", f"redis://127.0.0.1:{port}"):
                subprocess.run([sys.executable, __file__, "--write", storage], check=True)
            content = json.dumps(dump(port), indent=1)
        finally:
            server.kill()
            server.wait()
    folder.joinpath("redis.json").write_text(content + "\n", encoding="utf-8")
    with closing(_sqlite(folder / "keys.sqlite")) as database:  # one file, without the log of the last writes
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("VACUUM")
    about = {"flexmw": flexmw.__version__, "revision": _revision()}
    folder.joinpath("version.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _sqlite(path: Path) -> Any:
    import sqlite3

    return sqlite3.connect(path, isolation_level=None)


def _revision() -> str:
    """The revision of the flexmw that is imported, if its tree knows one."""
    tree = Path(flexmw.__file__).parents[1]
    noted = tree / "REVISION"
    if noted.exists():
        return noted.read_text(encoding="utf-8").strip()
    command = ["git", "-C", str(tree), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    if sys.argv[1] == "--write":
        asyncio.run(write(sys.argv[2]))
    main(Path(sys.argv[1]))
