"""What a caller meets, under asyncio and trio.

The promise in SECURITY.md: "No second execution of a request that flexmw says it executes once".
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass, replace
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import flexmw
from flexmw.contract import ErrorBody
from flexmw.errors import ConfigError, InsufficientCredit, JobNotFound, RateLimitExceeded, SubsystemOffline
from flexmw.idempotency import Idempotency
from flexmw.idempotency.admin import list_keys
from flexmw.idempotency.core import Record
from flexmw.idempotency.stores.memory import MemoryStore
from flexmw.kit.exchange import Exchange
from flexmw.testing import FakeClock
from tests.idempotency.calls import KEYED, Caller, Host, call, code
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio


async def test_a_retry_gets_the_response_of_the_first_call_and_runs_nothing() -> None:
    host = Host(status=201, headers=[(b"content-type", b"text/plain"), (b"location", b"/orders/1")])
    app = Idempotency().asgi(host)
    first, second = await call(app), await call(app)
    assert (first.status, first.answer, first.replayed) == (201, b"run 1", False)
    assert (second.status, second.answer, second.replayed) == (201, b"run 1", True)
    assert second.answer_headers["location"] == "/orders/1"
    assert host.runs == 1


async def test_a_body_that_is_compressed_anew_for_a_retry_is_the_same_request() -> None:
    host = Host()
    app, headers = Idempotency().asgi(host), {**KEYED, "content-encoding": "gzip"}
    await call(app, headers, body=gzip.compress(b"{}", mtime=1))
    assert (await call(app, headers, body=gzip.compress(b"{}", mtime=2))).replayed
    assert (await call(app, headers, body=gzip.compress(b"[]", mtime=2))).status == 422
    assert host.runs == 1


async def test_a_key_in_quotes_is_the_same_key() -> None:
    host = Host()
    app = Idempotency().asgi(host)
    await call(app, {"Idempotency-Key": '"8e03"'})
    assert (await call(app, {"Idempotency-Key": "8e03"})).replayed


async def test_the_same_key_of_another_caller_is_another_key() -> None:
    host = Host()
    app = Idempotency().asgi(host)
    await call(app, token="sk-one")
    for other in (
        {"token": "sk-two"},
        {"token": None},
        {"token": None, "client": ("192.0.2.8", 1)},
        {"token": None, "headers": {**KEYED, "x-api-key": "a"}},
        {"token": None, "headers": {**KEYED, "x-api-key": "b"}},
        {"token": None, "headers": {**KEYED, "x-goog-api-key": "a"}},
        {"token": None, "headers": {**KEYED, "x-goog-api-key": "b"}},
        {"token": None, "headers": {**KEYED, "authorization": "Basic YTpi"}},
        {"token": None, "headers": {**KEYED, "cookie": "session=1"}},
    ):
        assert not (await call(app, **other)).replayed
    assert host.runs == 10


async def test_a_caller_can_be_named_by_a_function_of_the_app() -> None:
    host = Host()
    app = Idempotency(caller=lambda scope: scope["path"].split("/")[1]).asgi(host)
    await call(app, token="sk-one", path="/acme/x")
    assert (await call(app, token="sk-two", path="/acme/x")).replayed
    assert not (await call(app, token="sk-two", path="/other/x")).replayed


@pytest.mark.parametrize(
    "other",
    [
        {"authorization": "Basic YTpi", "x-api-key": "b"},
        {"authorization": "Basic YTpi", "api-key": "a"},
        {"authorization": "Bearer shared", "x-api-key": "b"},
        {"authorization": "Basic YTpiCng=", "x-api-key": "a"},
    ],
)
async def test_callers_behind_one_sign_in_are_told_apart_by_their_own_credential(other: dict[str, str]) -> None:
    host = Host()
    app = Idempotency().asgi(host)
    for shared in ("Basic YTpi", "Bearer shared"):
        await call(app, {**KEYED, "authorization": shared, "x-api-key": "a"}, token=None)
    assert not (await call(app, {**KEYED, **other}, token=None)).replayed
    mine = {**KEYED, "authorization": "Basic YTpi", "x-api-key": "a", "cookie": "changes=1"}
    assert (await call(app, mine, token=None)).replayed


async def test_a_cookie_that_http2_split_is_read_whole() -> None:
    host = Host()
    app = Idempotency().asgi(host)
    for session in (b"session=1", b"session=2"):
        caller = Caller(split_cookie(app, session), headers=KEYED, token=None)
        assert not (await caller()).replayed
    assert (await Caller(split_cookie(app, b"session=1"), headers=KEYED, token=None)()).replayed


def split_cookie(app: Any, session: bytes) -> Any:
    async def split(scope: Any, receive: Any, send: Any) -> None:
        scope["headers"] = [*scope["headers"], (b"cookie", b"theme=dark"), (b"cookie", session)]
        await app(scope, receive, send)

    return split


async def test_a_caller_function_that_returns_none_falls_back_to_credentials() -> None:
    host = Host()
    app = Idempotency(caller=lambda scope: "").asgi(host)
    assert [(await call(app, token=token)).replayed for token in ("sk-one", "sk-two", "sk-one")] == [False, False, True]


async def test_an_error_of_the_contract_that_the_app_wrote_itself_stands_and_is_kept() -> None:
    body = ErrorBody(message="Half done.", type="server_error", code="half_done").encode()

    async def work(scope: Any, receive: Any, send: Any) -> None:
        RateLimitExceeded(1.0)

    host = Host(status=500, work=work, parts=(body,), headers=[(b"content-type", b"application/json")])
    app = Idempotency().asgi(host)
    first = Caller(app, headers=KEYED)
    with Exchange.of(first.scope):
        await first()
    second = await call(app)
    assert (second.status, second.answer, second.replayed, host.runs) == (500, body, True, 1)
    assert Exchange.of(first.scope).facts["flexmw.idempotency.result"] == "stored"


async def test_a_path_cannot_reach_into_an_operators_terminal() -> None:
    store = MemoryStore()
    await call(Idempotency(storage=store, labels=("path",)).asgi(Host()), path="/\x1b[2J\n/ä\udcff")
    (known,) = await list_keys(store, states=("done",))
    assert known.what == "POST /\\x1b[2J\\n/ä\\udcff"


@pytest.mark.parametrize(
    "change", [{"body": b'{"other": 1}'}, {"path": "/refunds"}, {"query": b"a=1"}, {"method": "PATCH"}]
)
async def test_a_key_that_another_request_has_is_refused(change: dict[str, Any]) -> None:
    host = Host()
    app = Idempotency().asgi(host)
    await call(app)
    refused = await call(app, **change)
    assert (refused.status, code(refused), host.runs) == (422, "idempotency_key_reused", 1)
    assert refused.answer_headers["x-should-retry"] == "false"


async def test_a_multipart_body_is_the_same_under_another_boundary() -> None:
    host = Host()
    app = Idempotency().asgi(host)
    for boundary in ("aaa", "bbb"):
        body = f'--{boundary}\r\ncontent-disposition: form-data; name="f"\r\n\r\n1\r\n--{boundary}--\r\n'.encode()
        last = await call(app, {**KEYED, "content-type": f"multipart/form-data; boundary={boundary}"}, body=body)
    assert last.replayed


async def test_a_missing_key_is_refused_only_where_one_is_required() -> None:
    host = Host()
    app = Idempotency(required=lambda scope: scope["path"] == "/orders").asgi(host)
    refused = await call(app, {})
    assert (refused.status, code(refused), host.runs) == (400, "idempotency_key_required", 0)
    assert (await call(app, {}, path="/free")).status == 200


@pytest.mark.parametrize("key", ["", '""', "a,b", '"a', "a b", "ä", "x" * 256])
async def test_a_key_that_cannot_be_read_is_refused(key: str) -> None:
    host = Host()
    refused = await call(Idempotency().asgi(host), {"Idempotency-Key": key})
    assert (refused.status, code(refused), host.runs) == (400, "idempotency_key_invalid", 0)


async def test_a_duplicate_gets_a_409_with_retry_after_while_the_first_runs() -> None:
    host = Host().hold()
    app = Idempotency().asgi(host)
    first = Caller(app, headers=KEYED)
    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await host.started.wait()
        second = await call(app)
        assert (second.status, code(second)) == (409, "idempotency_in_progress")
        assert second.answer_headers["retry-after"] == "1"
        assert second.answer_headers["x-should-retry"] == "true"
        host.proceed.set()
    assert (await call(app)).answer == first.answer == b"run 1"


async def test_a_duplicate_can_wait_for_the_first_ones_response() -> None:
    host = Host().hold()
    app = Idempotency(wait=30.0).asgi(host)
    first, second = Caller(app, headers=KEYED), Caller(app, headers=KEYED)
    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await host.started.wait()
        group.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        host.proceed.set()
    assert (first.answer, second.answer, second.replayed, host.runs) == (b"run 1", b"run 1", True, 1)


async def test_a_duplicate_waits_no_longer_than_it_should() -> None:
    host = Host().hold()
    clock = FakeClock()
    app = Idempotency(wait=5.0, lease=3600.0, clock=clock).asgi(host)
    async with anyio.create_task_group() as group:
        group.start_soon(Caller(app, headers=KEYED))
        await host.started.wait()
        slept = sum(clock.slept)
        assert (await call(app)).status == 409
        assert sum(clock.slept) - slept >= 5.0
        group.cancel_scope.cancel()
        host.proceed.set()


@pytest.mark.parametrize("status", [401, 402, 409, 425, 429, 400, 422])
async def test_a_refusal_is_not_kept(status: int) -> None:
    host = Host(status=status)
    app = Idempotency().asgi(host)
    await call(app)
    host.status = 200
    second = await call(app)
    assert (second.status, second.answer, second.replayed) == (200, b"run 2", False)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 302, 403, 404, 410, 500, 502, 503, 504])
async def test_every_other_response_is_stored(status: int) -> None:
    host = Host(status=status)
    app = Idempotency().asgi(host)
    first, second = await call(app), await call(app)
    assert (second.status, second.answer, second.replayed, host.runs) == (status, first.answer, True, 1)
    for answer in (first, second):
        assert answer.answer_headers.get("x-should-retry") == ("false" if status >= 500 else None)


async def test_a_503_with_retry_after_is_not_stored() -> None:
    host = Host(status=503, headers=[(b"retry-after", b"3")])
    app = Idempotency().asgi(host)
    first = await call(app)
    assert first.answer_headers.get("x-should-retry") is None
    host.status, host.headers = 200, []
    assert (await call(app)).answer == b"run 2"


async def test_a_conflict_without_retry_after_says_that_it_should_not_be_retried() -> None:
    assert (await call(Idempotency().asgi(Host(status=409)))).answer_headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        (ValueError("secret"), 500, "internal_error"),
        (TimeoutError(), 500, "upstream_timeout"),
        (JobNotFound(), 404, "job_not_found"),
        (ExceptionGroup("several", [ValueError("secret")]), 500, "internal_error"),
    ],
)
async def test_an_exception_is_raised_once_and_its_response_replayed(
    error: Exception, status: int, expected: str
) -> None:
    host = Host(error=error)
    app = Idempotency().asgi(host)
    first, second = await call(app), await call(app)
    assert first.raised is error
    assert first.sent == []
    assert (second.raised, second.status, code(second), host.runs) == (None, status, expected, 1)
    assert b"secret" not in second.answer


@pytest.mark.parametrize(
    "error", [RateLimitExceeded(2.0), InsufficientCredit(), SubsystemOffline("Playground", retry_after=3.0)]
)
async def test_a_refusal_that_is_raised_frees_the_key(error: Exception) -> None:
    host = Host(error=error)
    app = Idempotency().asgi(host)
    assert (await call(app)).raised is error
    host.error = None
    assert (await call(app)).answer == b"run 2"


@pytest.mark.parametrize("host_answers", [True, False])
async def test_the_response_of_envelope_to_an_exception_is_stored(host_answers: bool) -> None:
    class Outage(Exception): ...

    async def work(scope: Any, receive: Any, send: Any) -> None:
        if host_answers:
            await send({"type": "http.response.start", "status": 500, "headers": [(b"x-host", b"1")]})
            await send({"type": "http.response.body", "body": b"Internal Server Error"})
        raise Outage

    app = Idempotency().asgi(Host(work=work))
    first = Caller(app, headers=KEYED)
    exchange = Exchange.of(first.scope)
    exchange.map_exception = lambda error: UpstreamDown() if isinstance(error, Outage) else UpstreamDown(status=500)
    with exchange:
        await first()
    assert isinstance(first.raised, Outage)
    second = await call(app)
    assert (second.status, code(second)) == (502, "bad_gateway")
    assert second.answer_headers["x-upstream"] == "7"


@dataclass(frozen=True)
class UpstreamDown:
    """What a component that answers exceptions says of one."""

    status: int = 502
    headers: tuple[tuple[str, str], ...] = (("x-upstream", "7"),)
    gone: bool = False

    @property
    def error(self) -> ErrorBody:
        return ErrorBody(message="Bad gateway.", type="server_error", code="bad_gateway")


async def test_an_error_that_a_framework_swallowed_is_replayed_as_envelope_sends_it() -> None:
    async def work(scope: Any, receive: Any, send: Any) -> None:
        JobNotFound()

    app = Idempotency().asgi(Host(status=404, work=work, headers=[(b"x-host", b"1")]))
    first = Caller(app, headers=KEYED)
    with Exchange.of(first.scope):
        await first()
    assert first.answer == b"run 1"
    second = await call(app)
    assert (second.status, code(second), second.answer_headers["x-host"]) == (404, "job_not_found", "1")


async def test_the_store_is_closed_when_the_app_shuts_down() -> None:
    closed: list[str] = []

    class Store(MemoryStore):
        async def aclose(self) -> None:
            closed.append("closed")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for kind in ("startup", "shutdown"):
            await send({"type": f"lifespan.{kind}.complete"})
            closed.append(kind)

    async def nothing(message: Any = None) -> Any: ...

    await Idempotency(storage=Store()).asgi(app)({"type": "lifespan"}, nothing, nothing)
    assert closed == ["startup", "closed", "shutdown"]


async def test_an_app_that_never_responds_is_stored_as_a_500() -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None: ...

    app = Idempotency().asgi(silent)
    assert (await call(app)).sent == []
    assert (await call(app)).status == 500


async def test_volatile_headers_are_not_replayed() -> None:
    stale = {"date": "x", "X-Request-ID": "1", "x-ratelimit-remaining-requests": "3", "set-cookie": "a=b"}
    host = Host(headers=[(b"x-kept", b"1"), *((n.encode(), v.encode()) for n, v in stale.items())])
    app = Idempotency().asgi(host)
    await call(app)
    assert set((await call(app)).answer_headers) == {
        "x-kept",
        "content-length",
        "idempotent-replayed",
        "idempotency-key-ttl",
    }


async def test_a_credential_in_a_response_header_is_neither_stored_nor_replayed() -> None:
    lent = {"X-Api-Key": "canary1", "x-auth-token": "canary2", "x-session-id": "canary3", "client-secret": "canary4"}
    kept = {"x-next-page-token": "1", "mcp-session-id": "2", "surrogate-key": "3", "www-authenticate": "Bearer"}
    store = MemoryStore()
    app = Idempotency(storage=store).asgi(Host(headers=[(n.encode(), v.encode()) for n, v in (lent | kept).items()]))
    assert (await call(app)).answer_headers["x-auth-token"] == "canary2"
    assert kept.keys() <= (replay := await call(app)).answer_headers.keys()
    assert replay.replayed
    assert "canary" not in repr(replay.sent)
    assert [name async for name, held in store.scan() if b"canary" in held.entry] == []


async def test_every_response_of_a_protected_route_says_how_long_keys_are_kept() -> None:
    app = Idempotency(ttl=3600.0).asgi(Host())
    for headers in (KEYED, KEYED, {}, {"Idempotency-Key": ""}):
        assert (await call(app, headers)).answer_headers["idempotency-key-ttl"] == "3600"
    assert "idempotency-key-ttl" not in (await call(app, method="GET")).answer_headers


@pytest.mark.parametrize("options", [{"method": "GET"}, {"path": "/health"}, {"headers": {}}])
async def test_what_is_not_protected_runs_every_time(options: dict[str, Any]) -> None:
    host = Host()
    app = Idempotency(exempt=lambda scope: scope["path"] == "/health").asgi(host)
    for _ in range(2):
        assert not (await call(app, **options)).replayed
    assert host.runs == 2


async def test_other_kinds_of_connection_pass() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])
        await send({"type": "lifespan.shutdown.complete"})

    async def nothing(message: Any = None) -> Any: ...

    wrapped = Idempotency().asgi(app)
    for kind in ("lifespan", "websocket"):
        await wrapped({"type": kind, "headers": []}, nothing, nothing)
    assert seen == ["lifespan", "websocket"]


async def test_the_app_gets_the_whole_body_however_it_came() -> None:
    host = Host()
    body = bytes(range(256)) * 40
    await call(Idempotency().asgi(host), body=body, chunks=7)
    assert host.seen == [body]


async def test_a_request_too_large_to_compare_is_refused_with_a_key_and_passed_on_without() -> None:
    host = Host()
    app = Idempotency(max_request=10, sdk_retries=True).asgi(host)
    refused = await call(app, body=b"x" * 11)
    assert (refused.status, code(refused), host.runs) == (413, "request_too_large", 0)
    passed = await call(app, {"x-stainless-retry-count": "0"}, body=b"y" * 50, chunks=5)
    assert (passed.status, host.seen) == (200, [b"y" * 50])


async def test_an_execution_whose_process_vanished_is_unknown_and_never_run_again_by_itself() -> None:
    clock, host = FakeClock(), Host()
    store = MemoryStore(clock=clock)
    app = Idempotency(storage=store, lease=60.0, clock=clock).asgi(host)
    await vanished(app, store)
    in_lease = await call(app)
    assert code(in_lease) == "idempotency_in_progress"
    clock.advance(61.0)
    unknown = await call(app)
    assert (unknown.status, code(unknown), host.runs) == (409, "idempotency_unknown", 1)
    assert "8e03978e" not in unknown.answer.decode()
    assert unknown.answer_headers["x-should-retry"] == "false"


async def vanished(app: Any, store: MemoryStore) -> None:
    """Leave the key as a process leaves it that was killed in the middle: claimed, and never heard of again."""
    await call(app)
    (name, held), *_ = [item async for item in store.scan()]
    record = Record.decode(held.entry)
    running = replace(record, phase="running", response=None)
    await store.swap(name, held.token, "vanished", running.encode(), lease=60.0, ttl=3600.0)


async def test_an_unknown_execution_is_run_again_where_the_app_wants_that() -> None:
    clock, host, attempts = FakeClock(), Host(), []
    store = MemoryStore(clock=clock)

    async def work(scope: Any, receive: Any, send: Any) -> None:
        attempts.append(flexmw.execution().attempt)

    host.work = work
    app = Idempotency(storage=store, on_unknown="run", clock=clock).asgi(host)
    await vanished(app, store)
    clock.advance(61.0)
    assert (await call(app)).answer == b"run 2"
    assert attempts == [1, 2]
    assert (await call(app)).replayed


async def test_heartbeats_keep_a_long_execution_alive() -> None:
    clock, host = FakeClock(), Host().hold()
    app = Idempotency(lease=60.0, clock=clock).asgi(host)
    async with anyio.create_task_group() as group:
        group.start_soon(Caller(app, headers=KEYED))
        await host.started.wait()
        begin = clock.monotonic()
        with anyio.fail_after(LONGEST_WAIT):
            while clock.monotonic() < begin + 200.0:  # each sleep of the timer of heartbeats moves the clock
                await checkpoint()
        duplicate = await call(app)
        host.proceed.set()
    assert code(duplicate) == "idempotency_in_progress"


async def test_a_key_is_free_again_when_its_time_is_over() -> None:
    clock, host = FakeClock(), Host()
    app = Idempotency(ttl=100.0, clock=clock).asgi(host)
    await call(app)
    clock.advance(99.0)
    assert (await call(app)).replayed
    clock.advance(2.0)
    assert not (await call(app)).replayed


async def test_the_outcome_is_a_fact_of_the_exchange() -> None:
    host = Host()
    app = Idempotency().asgi(host)

    async def fact(**options: Any) -> Any:
        caller = await call(app, **options)
        exchange = Exchange.of(caller.scope)
        return exchange.facts["flexmw.idempotency.result"], exchange.error_outcome and exchange.error_outcome.source

    assert await fact() == ("stored", None)
    assert await fact() == ("replayed", None)
    assert await fact(body=b"other") == ("conflict", "idempotency")
    host.status = 429
    assert await fact(headers={"Idempotency-Key": "new"}) == ("released", None)


async def test_two_of_them_around_one_request_are_one() -> None:
    host = Host()
    app = Idempotency().asgi(Idempotency().asgi(host))
    assert (await call(app)).status == 200
    assert (await call(app)).replayed
    assert host.runs == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"storage": "redsi://x"}, "storage"),
        ({"storage": 3}, "storage"),
        ({"storage": "sqlite://keys.db"}, "storage"),
        ({"ttl": 0}, "ttl"),
        ({"lease": -1.0}, "lease"),
        ({"methods": ("post",)}, "methods"),
        ({"on_unknown": "guess"}, "on_unknown"),
        ({"required": "yes"}, "required"),
        ({"on_store_failure": "hope"}, "on_store_failure"),
        ({"pepper": ""}, "pepper"),
        ({"pepper": "\ud800"}, "pepper"),
        ({"prefix": "\ud800"}, "prefix"),
        ({"methods": ()}, "methods"),
        ({"sdk_window": 60.0}, "sdk_window"),
        ({"max_reading": 1000, "max_request": 1001}, "max_request"),
        ({"required": "GET /charges"}, "required"),
        ({"exempt": ["/health", "GET /metrics"]}, "exempt"),
        ({"exempt": "HEAD /files", "methods": ("POST",)}, "exempt"),
    ],
)
async def test_an_option_that_cannot_work_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=rf"Idempotency\({named}=\.\.\.\)"):
        Idempotency(**options)


async def test_options_that_have_an_effect_together_are_taken() -> None:
    Idempotency(sdk_retries=True, sdk_window=60.0, max_reading=1000, max_request=1000)
    Idempotency(methods=("GET",), exempt="HEAD /files", required=["GET /charges", "/all"])
    Idempotency(max_reading=1000)


async def test_one_inside_another_says_once_how_long_keys_are_honoured() -> None:
    app = flexmw.wrap_app(Idempotency(ttl=60.0).asgi(Host()), Idempotency())
    caller = await call(app, {})
    said = [value for name, value in caller.sent[0]["headers"] if name == b"idempotency-key-ttl"]
    assert said == [b"60"]
