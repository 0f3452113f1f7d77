"""Idempotency keys and paths lie hashed in every store, and nothing that flexmw writes repeats them.

The promise in SECURITY.md: "No API key, bearer token or idempotency key in the clear in a store".
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

import flexmw
from flexmw.errors import ConfigError
from flexmw.idempotency import Idempotency
from flexmw.idempotency.admin import list_keys
from flexmw.idempotency.core import Record
from flexmw.idempotency.hashing import KeyHasher
from flexmw.idempotency.stores import Store
from flexmw.idempotency.stores.memory import MemoryStore
from flexmw.idempotency.stores.open import open_store
from tests.idempotency.calls import Caller, Host

pytestmark = pytest.mark.anyio

KEY = "canary0key0of0ada"
PATH = "/canary0path/of/ada"
SDK = {"x-stainless-retry-count": "0"}


class PowerCut(BaseException):
    """Stands for the end of the process."""


def bytes_in(folder: Path) -> str:
    return "".join(file.read_bytes().decode("latin-1") for file in folder.iterdir())


def caller(app: Any, headers: dict[str, str] | None = None) -> Caller:
    return Caller(app, headers=headers or {"idempotency-key": KEY}, path=PATH)


async def texts_in(store: Store) -> str:
    return "\n".join([f"{name} {held.token} {held.entry!r}" async for name, held in store.scan()])


async def requests_of_every_state(storage: Any, **options: Any) -> None:
    """Leave a key that is done, one that is unknown with a step, and a call of an SDK."""

    async def work(scope: Any, receive: Any, send: Any) -> None:
        await flexmw.execution().record("step", 1)
        raise PowerCut

    app = Idempotency(storage=storage, sdk_retries=True, **options).asgi(Host())
    await caller(app)()
    await caller(app, SDK)()
    cut = Idempotency(storage=storage, **options).asgi(Host(work=work))
    with pytest.raises(PowerCut):
        await caller(cut, {"idempotency-key": f"{KEY}0cut"})()


@pytest.mark.parametrize("pepper", [None, "of this deployment"])
@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
async def test_no_store_holds_a_key_or_a_path_in_the_clear(
    kind: str, pepper: str | None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/keys.db"}.get(kind)
    url = url or request.getfixturevalue("redis_url")
    store = open_store(url)
    await requests_of_every_state(store, pepper=pepper)
    written = await texts_in(store)
    assert written.count(":k:") == 2
    await store.aclose()
    if kind == "sqlite":
        written += bytes_in(tmp_path)
    if kind == "redis":
        server = redis.Redis.from_url(url)
        written += "".join(f"{name!r} {server.dump(name)!r}" for name in server.scan_iter("*"))  # type: ignore[no-untyped-call]
        server.close()
    assert "canary" not in written
    plain = [hashlib.sha256(text.encode()).hexdigest()[:24] for text in (KEY, PATH)]
    assert not any(digest in written for digest in plain)


async def test_a_response_does_not_repeat_the_key() -> None:
    store = MemoryStore()
    await requests_of_every_state(store)
    unknown = await caller(Idempotency(storage=store).asgi(Host()), {"idempotency-key": f"{KEY}0cut"})()
    assert json.loads(unknown.answer)["error"]["code"] == "idempotency_unknown"
    reused = await Caller(Idempotency(storage=store).asgi(Host()), headers={"idempotency-key": KEY}, body=b"[]")()
    assert reused.status == 422
    invalid = await caller(Idempotency(storage=store).asgi(Host()), {"idempotency-key": f"{KEY},"})()
    assert invalid.status == 400
    assert "canary" not in "".join(str(call.sent) for call in (unknown, reused, invalid))


async def test_no_log_and_no_repr_repeats_the_key(caplog: pytest.LogCaptureFixture) -> None:
    shown: list[str] = []

    async def work(scope: Any, receive: Any, send: Any) -> None:
        shown.append(repr(flexmw.execution()))

    caplog.set_level(logging.DEBUG)
    app = Idempotency().asgi(Host(work=work))
    for token in ("sk-one", "sk-two"):  # a credential that changes is logged
        await Caller(app, headers={"idempotency-key": KEY}, path=PATH, token=token)()
    assert shown[0] == "Execution(key='***', attempt=1, steps=[])"
    assert len([record for record in caplog.records if record.name == "flexmw.idempotency"]) >= 1
    assert "canary" not in caplog.text


@pytest.mark.parametrize("pepper", [None, "of this deployment", b"\x00\x01"])
async def test_an_operator_finds_a_key_by_what_the_caller_wrote(pepper: str | bytes | None) -> None:
    store = MemoryStore()
    await requests_of_every_state(store, pepper=pepper)
    (known,) = await list_keys(store, states=("done", "unknown"), key=KEY, pepper=pepper)
    assert (known.state, known.what, len(known.key)) == ("done", "", 13)
    assert known.key == f"#{KeyHasher(pepper).of_key(KEY)[:12]}"
    assert await list_keys(store, states=("done",), key=known.key, pepper=pepper) == [known]
    assert await list_keys(store, states=("done",), key=KEY, pepper="another") == []


async def test_the_pepper_of_the_environment_counts_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEXMW_PEPPER", "of this deployment")
    store = MemoryStore()
    await requests_of_every_state(store)
    assert len(await list_keys(store, states=("done",), key=KEY)) == 1
    monkeypatch.delenv("FLEXMW_PEPPER")
    assert await list_keys(store, states=("done",), key=KEY) == []
    assert len(await list_keys(store, states=("done",), key=KEY, pepper="of this deployment")) == 1


@pytest.mark.parametrize(
    ("labels", "key", "what"),
    [
        ((), None, ""),
        (["key"], KEY, ""),
        (("path",), None, f"POST {PATH}"),
        (("key", "path"), KEY, f"POST {PATH}"),
    ],
)
async def test_labels_are_stored_where_they_are_asked_for(labels: Any, key: str | None, what: str) -> None:
    store = MemoryStore()
    await caller(Idempotency(storage=store, labels=labels).asgi(Host()))()
    (known,) = await list_keys(store, states=("done",), key=KEY)
    assert (known.key, known.what) == (key or known.key, what)
    assert known.key.startswith("#") == (key is None)


@pytest.mark.parametrize("labels", [True, "key", ("body",), ("key", 1)])
async def test_a_label_that_does_not_exist_is_refused(labels: Any) -> None:
    with pytest.raises(ConfigError, match=r"Idempotency\(labels=\.\.\.\).*'key', 'path'"):
        Idempotency(labels=labels)


async def test_records_of_an_earlier_version_are_other_keys(caplog: pytest.LogCaptureFixture) -> None:
    store, host = MemoryStore(), Host()
    app = Idempotency(storage=store).asgi(host)
    await caller(app)()
    (name, held), *_ = [item async for item in store.scan()]
    fields = json.loads(held.entry.partition(b"\n")[0]) | {"v": 1, "key": KEY, "what": f"POST {PATH}"}
    entry = json.dumps(fields, separators=(",", ":")).encode() + b"\n"
    start = name.rpartition(":")[0]
    await store.drop(name, held.token)
    for digits in (hashlib.sha256(KEY.encode()).hexdigest()[:40], "another"):
        await store.swap(f"{start}:{digits}", "", "earlier", entry, lease=0.0, ttl=3600.0)
    assert await list_keys(store, states=("done",)) == []
    assert "Keys of an earlier version of flexmw are not listed (2)" in caplog.text
    assert "canary" not in caplog.text
    again = await caller(app)()
    assert (again.status, host.runs) == (200, 2)
    assert len(await list_keys(store, states=("done",))) == 1


async def test_a_record_that_lacks_a_field_is_no_record() -> None:
    whole = Record(phase="done", key="", fingerprint="f", at=1.0)
    assert Record.decode(whole.encode()) == replace(whole)
    fields = json.loads(whole.encode())
    del fields["phase"]
    with pytest.raises(ValueError, match="phase is missing"):
        Record.decode(json.dumps(fields).encode() + b"\n")


async def test_a_key_and_a_request_of_the_same_text_have_different_hashes() -> None:
    hasher = KeyHasher()
    assert hasher.of_key("a") != hasher.of_request("a")[:40]
    assert len(hasher.of_key("a")) == 40
    assert hasher.of_key("a") == KeyHasher("").of_key("a")


@pytest.mark.parametrize("pepper", [b"p", "of this deployment", b"b" * 64, b"long" * 40])
async def test_the_hash_with_a_pepper_is_hmac_sha256(pepper: str | bytes) -> None:
    raw = pepper.encode() if isinstance(pepper, str) else pepper
    digest = hmac.digest(raw, b"flexmw idempotency request\0f", "sha256").hex()
    assert KeyHasher(pepper).of_request("f") == digest
