"""A response that was cut goes on: in its own process, in another one, from its log and from what was stored."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import pytest

from flexmw.idempotency import Held, Idempotency, execute, log_writer
from flexmw.idempotency.core import Record, StoredResponse, complete, lapse
from flexmw.idempotency.stores.memory import MemoryStore
from tests.idempotency.calls import KEYED, Caller
from tests.idempotency.streams import BREAK, BYTES, EVENT, Source, Storage, code, streaming, until

pytestmark = pytest.mark.anyio


class NoLogs:
    """A store of another distribution, without logs."""

    def __init__(self) -> None:
        self._store = MemoryStore()
        for name in ("load", "swap", "extend", "drop", "scan", "aclose"):
            setattr(self, name, getattr(self._store, name))

    async def load(self, key: str) -> Held | None: ...
    async def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Any: ...
    async def extend(self, key: str, token: str, *, lease: float, ttl: float) -> bool: ...  # type: ignore[empty-body]
    async def drop(self, key: str, token: str) -> bool: ...  # type: ignore[empty-body]
    def scan(self, prefix: str = "") -> Any: ...
    async def aclose(self) -> None: ...


@pytest.fixture(autouse=True)
def frequent_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find a reader in another process after 50 ms, not after a second: ``test_log_writer.py`` tests the times."""
    monkeypatch.setattr(log_writer, "_SLOW_SECONDS", 0.05)


@pytest.fixture(params=["memory", "sqlite", "redis"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """What two processes name to share one store."""
    if request.param == "redis":
        url = str(request.getfixturevalue("redis_url"))
        return lambda: url
    store = MemoryStore()
    return (lambda: store) if request.param == "memory" else (lambda: f"sqlite:///{tmp_path}/keys.db")


@pytest.mark.parametrize("place", ["same", "other"])
async def test_a_continuation_gets_the_rest_of_a_running_response(storage: Storage, place: str) -> None:
    async with streaming(storage) as stream:
        stream.source.send(EVENT, EVENT)
        caller = stream.at(3, stream.app if place == "same" else stream.other)
        async with anyio.create_task_group() as group:
            group.start_soon(caller)
            await until(lambda: caller.answer)
            stream.source.send(EVENT)
            stream.source.end()
    whole = EVENT * 3
    assert stream.first.answer == whole
    assert caller.answer == whole[3:]
    digest = b64encode(sha256(whole[:3]).digest()).decode()
    assert caller.answer_headers["idempotent-stream"] == f'"{stream.generation}";from=3;sha256=:{digest}:'
    assert "no-store" in caller.answer_headers["cache-control"]
    assert "idempotent-replayed" not in caller.answer_headers
    assert stream.source.runs == 1


@pytest.mark.parametrize("private", [True, False], ids=["memory://", "an object"])
async def test_only_a_store_that_another_app_can_have_gets_a_copy_of_a_running_response(
    private: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers: list[object] = []
    monkeypatch.setattr(execute, "log_writer", lambda *arguments: writers.append(log_writer.log_writer(*arguments)))
    store = MemoryStore()
    async with streaming(lambda: "memory://" if private else store) as stream:
        stream.source.send(EVENT)
        caller = stream.at(3, stream.app)
        async with anyio.create_task_group() as group:
            group.start_soon(caller)
            await until(lambda: caller.answer)
            stream.source.send(EVENT)
            stream.source.end()
        await stream.first.complete.wait()
        late = await stream.at(3, stream.app)()
    assert len(writers) == (0 if private else 1)
    assert caller.answer == late.answer == (EVENT * 2)[3:]
    assert stream.source.runs == 1


async def test_a_stored_response_goes_on_at_every_byte_and_has_a_length() -> None:
    store = MemoryStore()
    async with streaming(lambda: store) as stream:
        stream.source.send(*(b"data: %d\n\n" % number for number in range(30)))
        stream.source.end()
        await stream.first.complete.wait()
    whole = stream.first.answer
    for start in range(len(whole) + 1):
        caller = await stream.at(start)()
        assert caller.answer == whole[start:]
        assert caller.answer_headers["content-length"] == str(len(whole) - start)
    beyond = await stream.at(len(whole) + 1)()
    assert (beyond.status, code(beyond)) == (400, "idempotency_stream_invalid")
    assert stream.source.runs == 1


async def test_a_reader_ahead_of_the_log_waits_for_it(storage: Storage) -> None:
    async with streaming(storage) as stream:
        stream.source.send(EVENT)
        caller = stream.at(2 * len(EVENT))
        async with anyio.create_task_group() as group:
            group.start_soon(caller)
            await stream.until_logged(len(EVENT))
            assert caller.sent == []
            stream.source.send(EVENT, EVENT)
            stream.source.end()
    assert caller.answer == EVENT


async def test_two_readers_at_two_offsets_are_each_whole(storage: Storage) -> None:
    async with streaming(storage) as stream:
        callers = [stream.at(start, app) for start in (0, 5) for app in (stream.app, stream.other)]
        async with anyio.create_task_group() as group:
            for caller in callers:
                group.start_soon(caller)
            for _ in range(20):
                stream.source.send(EVENT)
                await anyio.sleep(0.01)
            stream.source.end()
    assert [caller.answer for caller in callers] == [(EVENT * 20)[start:] for start in (0, 0, 5, 5)]


async def test_a_plain_duplicate_that_prefers_to_wait_follows_from_the_first_byte(storage: Storage) -> None:
    async with streaming(storage) as stream:
        stream.source.send(EVENT)
        caller = Caller(stream.other, headers={**KEYED, "prefer": "respond-async, wait=8"})
        refused = await Caller(stream.other, headers=KEYED)()
        async with anyio.create_task_group() as group:
            group.start_soon(caller)
            await until(lambda: caller.answer)
            stream.source.send(EVENT)
            stream.source.end()
    assert (refused.status, code(refused)) == (409, "idempotency_in_progress")
    assert caller.answer == EVENT * 2
    assert caller.replayed
    assert caller.answer_headers["idempotent-stream"] == f'"{stream.generation}"'
    assert stream.source.runs == 1


@pytest.mark.parametrize(
    "value",
    [
        '"{g}"', '"{g}";from=-1', '"{g}";from="1"', '"{g}";from=1.5', '"{g}";from=1000000000000000', "{g};from=1",
        '?1;from=1', '("{g}");from=1', "", '"{g}";from=1, "{g}";from=1', '"{g}";from=' + "9" * 1000, '"\n";from=1',
        '"short";from=1',
    ],
)  # fmt: skip
async def test_a_field_that_is_not_valid_is_a_400_and_never_an_execution(value: str) -> None:
    source = Source()
    app = Idempotency().asgi(source)
    caller = await Caller(app, headers={**KEYED, "idempotent-stream": value.replace("{g}", "g" * 24)})()
    assert (caller.status, code(caller)) == (400, "idempotency_stream_invalid")
    assert caller.answer_headers["x-should-retry"] == "false"
    assert source.runs == 0


async def test_a_field_without_a_key_is_a_400_and_on_an_unprotected_method_nothing() -> None:
    source = Source()
    source.send(None, None)
    app = Idempotency().asgi(source)
    headers = {"idempotent-stream": f'"{"g" * 24}";from=0'}
    caller = await Caller(app, headers=headers)()
    assert (caller.status, code(caller), source.runs) == (400, "idempotency_stream_invalid", 0)
    assert (await Caller(app, headers=headers, method="GET")()).status == 200
    assert (await Caller(Idempotency(methods=("GET",)).asgi(source), headers=headers, method="GET")()).status == 200


async def test_a_continuation_of_anything_else_is_refused_and_never_begins_an_execution(storage: Storage) -> None:
    async with streaming(storage) as stream:
        stream.source.send(EVENT)
        foreign = await stream.at(1, token="sk-two")()
        path = await stream.at(1, path="/other")()
        body = await stream.at(1, body=b"another")()
        fresh = Caller(stream.other, headers={**KEYED, "idempotent-stream": f'"{"0" * 24}";from=0'})
        await fresh()
    refused = [(caller.status, code(caller)) for caller in (foreign, path, body, fresh)]
    assert refused == [
        (410, "idempotency_stream_gone"),
        (422, "idempotency_key_reused"),
        (422, "idempotency_key_reused"),
        (409, "idempotency_stream_changed"),
    ]
    assert {caller.answer_headers["x-should-retry"] for caller in (foreign, path, body, fresh)} == {"false"}
    assert stream.source.runs == 1


@pytest.mark.parametrize("phase", ["gone", "dead", "unknown", "open", "changed", "given"])
async def test_a_continuation_runs_nothing_whatever_the_store_holds(storage: Storage, phase: str) -> None:
    async with streaming(storage, on_unknown="run") as stream:
        stream.source.send(EVENT)
        name, store = await stream.name(), stream.store
        held = await store.load(name)
        assert held is not None
        record = Record.decode(held.entry)
        given = StoredResponse(status=200, body=b"another", size=7)
        entries = {
            "dead": record,
            "unknown": lapse(record),
            "open": Record(phase="open", key="", fingerprint=record.fingerprint, at=0.0),
            "changed": Record(phase="running", key="", fingerprint=record.fingerprint, at=0.0, generation="h" * 24),
            "given": complete(Record(phase="unknown", key="", fingerprint=record.fingerprint, at=0.0), given),
        }
        if phase == "gone":
            await store.drop(name, held.token)
        else:
            await store.swap(name, held.token, "another", entries[phase].encode(), lease=0.0, ttl=60.0)
        caller = await stream.at(len(EVENT))()
    expected = {"gone": (410, "idempotency_stream_gone")} | dict.fromkeys(
        ("dead", "unknown"), (409, "idempotency_unknown")
    )
    assert (caller.status, code(caller)) == expected.get(phase, (409, "idempotency_stream_changed"))
    assert stream.source.runs == 1


async def test_what_a_dead_process_has_logged_is_sent_once_and_then_cut(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with streaming(storage, lease=30.0) as stream:
        stream.source.send(EVENT, EVENT)
        await stream.until_logged(2 * len(EVENT))
        monkeypatch.setattr(log_writer, "_SLOW_SECONDS", 3600.0)  # a write would renew the lease of the dead process
        name, store = await stream.name(), stream.store
        held = await store.load(name)
        assert held is not None
        await store.extend(name, held.token, lease=0.0, ttl=60.0)  # SIGKILL: nobody renews the lease
        caller = await stream.at(4)()
        again = await stream.at(2 * len(EVENT))()
        ahead = await stream.at(500)()
    assert caller.answer == (EVENT * 2)[4:]
    assert not caller.complete.is_set()
    assert [(other.status, code(other)) for other in (again, ahead)] == [(409, "idempotency_unknown")] * 2


async def test_a_follower_of_a_response_that_grows_too_long_is_cut_and_told(storage: Storage) -> None:
    async with streaming(storage, max_body=100) as stream:
        stream.source.send(EVENT)
        caller = stream.at(0)
        async with anyio.create_task_group() as group:
            group.start_soon(caller)
            await until(lambda: caller.answer)
            stream.source.send(b"data: " + b"x" * 100 + b"\n\n")
        again = await stream.at(len(EVENT))()
        stream.source.end()
    assert not caller.complete.is_set()
    assert (again.status, code(again)) == (409, "idempotency_answer_not_kept")
    assert len(stream.first.answer) == len(EVENT) + 108


@pytest.mark.parametrize(
    ("options", "expected"), [({}, "idempotency_unknown"), ({"max_body": 300}, "idempotency_answer_not_kept")]
)
async def test_the_error_of_a_broken_body_never_continues_its_bytes(
    storage: Storage, options: dict[str, Any], expected: str
) -> None:
    async with streaming(storage, BYTES, **options) as stream:
        stream.source.send(b"abc")
        caller = stream.at(1)
        async with anyio.create_task_group() as group:
            group.start_soon(caller)
            await until(lambda: caller.answer)
            stream.source.send(*[b"y" * 400 for _ in options], BREAK)
        name = await stream.name()
        while Record.decode((await stream.store.load(name)).entry).phase != "done":  # type: ignore[union-attr] # noqa: ASYNC110
            await anyio.sleep(0.01)  # a store has no event for it
        again = [await stream.at(start, app)() for start in (0, 3, 5000) for app in (stream.app, stream.other)]
        replay = await Caller(stream.other, headers=KEYED)()
    assert not caller.complete.is_set()
    assert caller.answer == b"bc"
    assert [(other.status, code(other)) for other in again] == [(409, expected)] * 6
    assert (replay.status, code(replay)) == (500, "internal_error")


async def test_a_store_without_logs_keeps_the_conflict_of_today() -> None:
    store = NoLogs()
    async with streaming(lambda: store) as stream:
        assert "idempotent-stream" not in stream.first.answer_headers
        stream.source.send(EVENT)
        name = await stream.name()
        held = await stream.store.load(name)
        assert held is not None
        generation = Record.decode(held.entry).generation
        headers = {**KEYED, "idempotent-stream": f'"{generation}";from=0'}
        caller = await Caller(stream.other, headers=headers)()
    assert (caller.status, code(caller)) == (409, "idempotency_in_progress")
    assert caller.answer_headers["retry-after"] == "1"
    assert stream.source.runs == 1


async def test_the_ninth_follower_is_asked_to_come_back() -> None:
    store = MemoryStore()
    async with streaming(lambda: store) as stream:
        stream.source.send(EVENT)
        callers = [stream.at(0) for _ in range(8)]
        async with anyio.create_task_group() as group:
            for caller in callers:
                group.start_soon(caller)
            await until(lambda: all(each.answer for each in callers))
            ninth = await stream.at(0)()
            stream.source.end()
    assert (ninth.status, ninth.answer_headers["retry-after"]) == (503, "1")
    assert {caller.answer for caller in callers} == {EVENT}


async def test_a_reader_that_leaves_is_counted_no_more() -> None:
    store = MemoryStore()
    async with streaming(lambda: store) as stream:
        stream.source.send(EVENT)
        for place in (stream.app, stream.other):
            for _ in range(9):
                caller = stream.at(0, place)
                async with anyio.create_task_group() as group:
                    group.start_soon(caller)
                    await until(lambda each=caller: each.answer)  # type: ignore[misc]
                    caller.gone.set()
                assert caller.status == 200


async def test_a_continuation_while_the_store_is_away_comes_back_later() -> None:
    class Away(MemoryStore):
        is_away = False

        async def load(self, key: str) -> Held | None:
            if self.is_away:
                raise ConnectionError
            return await super().load(key)

    store = Away()
    async with streaming(lambda: store, on_store_failure="run") as stream:
        stream.source.send(EVENT)
        store.is_away = True
        caller = await stream.at(0)()
        store.is_away = False
    assert caller.status == 503
    assert "retry-after" in caller.answer_headers
    assert stream.source.runs == 1
