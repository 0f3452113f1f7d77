"""What an earlier version has stored is read and continued by this one.

``python -m scripts.store_fixtures`` writes the stores, and ``written/version.json`` names the version that did.
"""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flexmw.idempotency.admin import Given, list_keys, resolve
from scripts.store_fixtures import KILLED, RESPONSE, STRATEGIES, STREAM, call, limited, protected
from tests.servers import Child

WRITTEN = Path(__file__).with_name("written")

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def restore(server: Child) -> None:
    """Write the dump into an empty redis."""
    dump = json.loads(WRITTEN.joinpath("redis.json").read_text(encoding="utf-8"))
    commands = {"string": b"SET", "hash": b"HSET", "list": b"RPUSH", "zset": b"ZADD", "set": b"SADD"}
    with socket.create_connection(("127.0.0.1", server.port)) as connection, closing(connection.makefile("rb")) as file:

        def ask(*words: bytes) -> None:
            parts = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
            connection.sendall(b"*%d\r\n%s" % (len(words), parts))
            reply = file.readline()
            assert not reply.startswith(b"-"), reply

        for key, value in dump.items():
            content = value["content"]
            texts = [content] if isinstance(content, str) else content
            words = [bytes.fromhex(text) for text in texts]
            if value["type"] == "zset":
                words = [word for member, score in texts for word in (score.encode(), bytes.fromhex(member))]
            ask(commands[value["type"]], bytes.fromhex(key), *words)
            ask(b"PEXPIRE", bytes.fromhex(key), b"%d" % value["ttl_ms"])


@pytest.fixture(params=["sqlite", "redis"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a copy of a store."""
    if request.param == "sqlite":
        shutil.copy(WRITTEN / "keys.sqlite", tmp_path / "keys.db")
        yield f"sqlite:///{tmp_path / 'keys.db'}"
    else:
        url = request.getfixturevalue("redis_url")
        restore(request.getfixturevalue("redis_server"))
        yield url


async def never(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("the app is not asked again")


def body(sent: list[Any]) -> bytes:
    return b"".join(message.get("body", b"") for message in sent[1:])


def headers(sent: list[Any]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in sent[0]["headers"]}


def code(sent: list[Any]) -> tuple[int, str]:
    return sent[0]["status"], json.loads(body(sent))["error"]["code"]


@pytest.mark.parametrize(("key", "expected"), [("response", RESPONSE), ("stream", b"".join(STREAM))])
async def test_a_response_is_replayed_as_it_was_sent(storage: str, key: str, expected: bytes) -> None:
    sent = await call(protected(storage, never), f"/{key}", key)
    assert (sent[0]["status"], body(sent)) == (200, expected)
    assert headers(sent)["idempotent-replayed"] == "true"
    assert headers(sent)["x-written-by"] == "an app"


async def test_a_key_still_belongs_to_its_request(storage: str) -> None:
    assert code(await call(protected(storage, never), "/other", "response")) == (422, "idempotency_key_reused")


async def test_the_execution_of_a_process_that_was_killed_is_unknown_and_can_be_resolved(storage: str) -> None:
    assert code(await call(protected(storage, never), KILLED, "killed")) == (409, "idempotency_unknown")
    (known,) = await list_keys(storage)
    assert known.state == "unknown"
    await resolve(storage, known.id, Given(body={"made": "by hand"}))
    assert json.loads(body(await call(protected(storage, never), KILLED, "killed"))) == {"made": "by hand"}


async def test_a_new_key_is_kept_beside_those_of_before(storage: str) -> None:
    for _ in range(2):
        sent = await call(protected(storage), "/response", "new")
    assert headers(sent)["idempotent-replayed"] == "true"
    sent = await call(protected(storage, never), "/response", "response")
    assert body(sent) == RESPONSE


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_count_goes_on(strategy: str, redis_url: str, redis_server: Child) -> None:
    restore(redis_server)
    responses: list[Any] = [await call(limited(redis_url, strategy), "/response", "none") for _ in range(3)]
    assert [sent[0]["status"] for sent in responses] == [200, 200, 429]
    assert headers(responses[0])["x-ratelimit-remaining-requests"] == "1"
