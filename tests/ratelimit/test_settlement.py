"""``RateLimit(usage=...)``: what a request has reserved is corrected by what its response reports."""

from __future__ import annotations

import gzip
import json
import logging
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

import anyio
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import flexmw
from flexmw.contract.coded_stream import PIECE_BYTES
from flexmw.ratelimit import Usage, settle
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.basis import Observed, settled_by
from flexmw.ratelimit.usage_observer import MAX_PLAIN_BYTES
from flexmw.testing import FakeClock
from tests.app_calls import AppResponse
from tests.ratelimit.calls import call, limited, limiters, scope_of
from tests.ratelimit.test_usage import (
    COHERES,
    CONVERSED,
    FRAMES,
    GEMINI,
    MESSAGES,
    RESPONSES,
    USED,
    WITH_USAGE,
    WITHOUT,
    events,
)
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio
NAMES = sorted(ALGORITHMS)
LIMIT = 1000
ESTIMATE = 500
OPTIONS: Any = {"tokens": f"{LIMIT}/day", "token_cost": lambda scope: ESTIMATE, "usage": "openai"}
JSON = (b"content-type", b"application/json")
STREAM = (b"content-type", b"text/event-stream; charset=utf-8")


def sending(
    *chunks: bytes, status: int = 200, headers: Sequence[tuple[bytes, bytes]] = (JSON,), error: Exception | None = None
) -> ASGIApp:
    """An app that sends these chunks, and then ends its response, or raises."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if error is not None:
            raise error
        await send({"type": "http.response.body", "body": b""})

    return app


def body_of(usage: Any) -> bytes:
    return json.dumps({"model": "gpt-x", "usage": usage}).encode()


def remaining(response: AppResponse) -> int:
    return int(response["x-ratelimit-remaining-tokens"])


async def charged(app: Any) -> int:
    """The tokens that the caller has used, by the store."""
    decision = await app.explain(scope_of())
    return LIMIT - int(decision.remaining)


CASES: dict[str, tuple[ASGIApp, str, int, str]] = {
    "json": (sending(body_of(USED)), "openai", 12, "usage"),
    "json-in-pieces": (sending(body_of(USED)[:20], body_of(USED)[20:]), "openai", 12, "usage"),
    "above-the-estimate": (sending(body_of({"total_tokens": 900})), "openai", 900, "usage"),
    "embeddings": (sending(body_of({"prompt_tokens": 8, "total_tokens": 8})), "openai", 8, "usage"),
    "stream": (sending(WITH_USAGE, headers=[STREAM]), "openai", 12, "usage"),
    "responses": (sending(RESPONSES[:99], RESPONSES[99:], headers=[STREAM]), "openai", 12, "usage"),
    "anthropic": (sending(MESSAGES, headers=[STREAM]), "anthropic", 12, "usage"),
    "anthropic-cut": (sending(MESSAGES[:320], headers=[STREAM]), "anthropic", 9, "counted"),
    "google": (sending(events(*GEMINI), headers=[STREAM]), "google", 12, "usage"),
    "google-cut": (sending(events(*GEMINI)[:-20], headers=[STREAM]), "google", 8, "counted"),
    "cohere": (sending(COHERES, headers=[STREAM]), "cohere", 12, "usage"),
    "bedrock": (sending(*CONVERSED, headers=[(b"content-type", FRAMES.encode())]), "bedrock", 12, "usage"),
    "stream-without-usage": (sending(WITHOUT, headers=[STREAM]), "openai", 2, "counted"),
    "json-without-usage": (sending(b"{}"), "openai", ESTIMATE, "estimate"),
    "audio": (sending(b"\0", headers=[(b"content-type", b"audio/mpeg")]), "openai", ESTIMATE, "estimate"),
    "refused": (sending(b"{}", status=429), "openai", 0, "failed"),
    "failed": (sending(b"{}", status=500), "openai", 0, "failed"),
    "failed-with-usage": (sending(body_of(USED), status=500), "openai", 12, "usage"),
    "redirected": (sending(status=307), "openai", 0, "failed"),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_response_settles_what_its_request_has_reserved(case: str) -> None:
    inner, usage, expected, basis = CASES[case]
    app = limited(app=inner, **{**OPTIONS, "usage": usage}, clock=FakeClock())
    scope = scope_of()
    response = await flexmw_call(app, scope)
    assert remaining(response) == LIMIT - ESTIMATE  # what is known when the response begins
    assert await charged(app) == expected
    assert scope["flexmw"].facts["flexmw.rate_limiting.settlement"] == basis


async def flexmw_call(app: ASGIApp, scope: Scope, receive: Receive | None = None) -> AppResponse:
    response = AppResponse()

    bodies = iter([b""])

    async def nothing() -> Message:
        for body in bodies:
            return {"type": "http.request", "body": body}
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: Message) -> None:
        response.messages.append(message)
        response.status = message.get("status", response.status)
        response.headers += [(name.decode(), value.decode()) for name, value in message.get("headers") or ()]
        response.body += message.get("body", b"")

    await app(scope, receive or nothing, send)
    return response


@pytest.mark.parametrize("raises_after", [0, 1], ids=["before", "amid"])
async def test_an_exception_gives_back_what_nobody_has_got(raises_after: int) -> None:
    chunks = [WITHOUT[:-20]] * raises_after
    app = limited(app=sending(*chunks, headers=[STREAM], error=ValueError("no")), **OPTIONS, clock=FakeClock())
    with pytest.raises(ValueError, match="no"):
        await call(app)
    assert await charged(app) == 2 * raises_after


async def test_the_store_is_corrected_before_the_end_of_the_response_is_sent() -> None:
    app = limited(app=sending(WITH_USAGE, headers=[STREAM]), **OPTIONS, clock=FakeClock())
    seen: list[tuple[bool, int]] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        seen.append((message["type"].endswith("start") or message.get("more_body", False), await charged(app)))

    await app(scope_of(), receive, send)
    assert seen == [(True, ESTIMATE), (True, ESTIMATE), (False, 12)]


async def test_a_stream_is_sent_as_it_comes_and_unchanged() -> None:
    pieces = [WITH_USAGE[start : start + 7] for start in range(0, len(WITH_USAGE), 7)]
    app = limited(app=sending(*pieces, headers=[STREAM]), **OPTIONS, clock=FakeClock())
    response = await call(app)
    assert [message.get("body") for message in response.messages[1:]] == [*pieces, b""]


@pytest.mark.parametrize("strategy", NAMES)
async def test_use_above_the_limit_makes_the_next_requests_wait(strategy: str) -> None:
    clock = FakeClock()
    options = {**OPTIONS, "tokens": f"{LIMIT}/minute", "strategy": strategy, "clock": clock}
    app = limited(app=sending(body_of({"total_tokens": 2 * LIMIT})), **options)
    assert (await call(app)).status == 200
    refused = await call(app)
    assert (refused.status, remaining(refused)) == (429, 0)
    clock.advance(int(refused["retry-after-ms"]) / 1000)
    assert (await call(app)).status == 200


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("strategy", NAMES)
async def test_redis_settles_as_memory_does(redis_url: str, strategy: str, anyio_backend: str) -> None:
    async with limiters(storage=redis_url, store_timeout=LONGEST_WAIT, strategy=strategy) as make:
        for case in ("json", "above-the-estimate", "stream", "stream-without-usage", "failed"):
            inner, usage, expected, _ = CASES[case]
            app = make(app=inner, **{**OPTIONS, "usage": usage, "prefix": f"{case}.{strategy}"})
            await call(app)
            # The bucket of gcra drains one of these tokens in 86 seconds, of those in use the oldest first.
            assert await charged(app) == expected


async def test_a_client_that_leaves_amid_a_stream_pays_what_was_sent() -> None:
    left = anyio.Event()

    async def receive() -> Message:
        await left.wait()
        return {"type": "http.disconnect"}

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [STREAM]})
        await send({"type": "http.response.body", "body": WITHOUT, "more_body": True})
        left.set()
        assert (await receive())["type"] == "http.disconnect"

    app = limited(app=inner, **OPTIONS, clock=FakeClock())
    await flexmw_call(app, scope_of(), receive)
    assert await charged(app) == 2


async def test_a_client_that_leaves_before_the_response_pays_the_estimate() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    app = limited(app=inner, **OPTIONS, clock=FakeClock())
    await flexmw_call(app, scope_of(), receive)
    assert await charged(app) == ESTIMATE


async def test_a_cancelled_request_settles_too() -> None:
    started = anyio.Event()

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [STREAM]})
        await send({"type": "http.response.body", "body": WITHOUT, "more_body": True})
        started.set()
        await anyio.sleep_forever()

    app = limited(app=inner, **OPTIONS, clock=FakeClock())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: call(app))
        await started.wait()
        tasks.cancel_scope.cancel()
    assert await charged(app) == 2


async def test_a_server_that_refuses_to_send_means_that_the_client_has_left() -> None:
    app = limited(app=sending(WITHOUT, headers=[STREAM]), **OPTIONS, clock=FakeClock())

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await app(scope_of(), receive, send)
    assert await charged(app) == 2


def flushing(*events: bytes) -> list[bytes]:
    """Chunks of a stream in gzip, each of which can be read when it comes."""
    writer = zlib.compressobj(wbits=31)
    return [writer.compress(event) + writer.flush(zlib.Z_SYNC_FLUSH) for event in events]


ENCODED: dict[str, tuple[str, Callable[[], list[bytes]], tuple[bytes, bytes], int]] = {
    "gzip": ("gzip", lambda: [gzip.compress(body_of(USED))], JSON, 12),
    "br": ("br", lambda: [pytest.importorskip("brotli").compress(body_of(USED))], JSON, 12),
    "zstd": ("zstd", lambda: [pytest.importorskip("backports.zstd").compress(body_of(USED))], JSON, 12),
    "stream": ("gzip", lambda: flushing(WITH_USAGE), STREAM, 12),
    "cut-stream": ("gzip", lambda: flushing(WITHOUT[:-20]), STREAM, 2),
}


@pytest.mark.parametrize("case", ENCODED)
async def test_a_compressed_response_reports_its_usage_too(case: str, caplog: pytest.LogCaptureFixture) -> None:
    coding, make, kind, expected = ENCODED[case]
    chunks = make()
    headers = [kind, (b"Content-Encoding", coding.encode())]
    app = limited(app=sending(*chunks, headers=headers), **OPTIONS, clock=FakeClock())
    assert (await call(app)).body == b"".join(chunks)
    assert await charged(app) == expected
    assert not caplog.records


async def test_a_response_in_an_unknown_coding_keeps_its_estimate_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    headers = [JSON, (b"Content-Encoding", b"gzip, br")]
    app = limited(app=sending(body_of(USED), headers=headers), **OPTIONS, clock=FakeClock())
    with caplog.at_level(logging.WARNING, "flexmw.ratelimit"):
        await call(app)
        assert await charged(app) == ESTIMATE
        await call(app)
    assert [record.message for record in caplog.records if "content-encoding 'gzip, br'" in record.message] == [
        caplog.records[0].message
    ]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"no gzip", "incorrect header"),
        (gzip.compress(bytes(MAX_PLAIN_BYTES) + b"!", compresslevel=1), "more than 67108864 bytes"),
    ],
    ids=["damaged", "endless"],
)
async def test_a_compressed_response_that_cannot_be_read_keeps_its_estimate_and_is_sent_unchanged(
    body: bytes, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    headers = [JSON, (b"content-encoding", b"gzip")]
    app = limited(app=sending(body, headers=headers), **OPTIONS, clock=FakeClock())
    assert (await call(app)).body == body
    assert await charged(app) == ESTIMATE
    assert words in caplog.text


async def test_other_tasks_go_on_while_a_chunk_that_expands_is_read() -> None:
    pieces, turns = 32, 0
    body = gzip.compress(b"\n" * pieces * PIECE_BYTES)
    app = limited(app=sending(body, headers=[STREAM, (b"content-encoding", b"gzip")]), **OPTIONS, clock=FakeClock())

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take_turns)
        assert (await call(app)).body == body
        tasks.cancel_scope.cancel()
    assert turns > pieces // 2


async def test_a_reader_that_raises_changes_no_response_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def broken(value: Any) -> int:
        raise KeyError(value["usage"])

    app = limited(app=sending(body_of(USED)), **{**OPTIONS, "usage": broken}, clock=FakeClock())
    with caplog.at_level(logging.WARNING, "flexmw.ratelimit"):
        assert (await call(app)).body == body_of(USED)
    assert await charged(app) == ESTIMATE
    assert "cannot settle a request" in caplog.text
    app = limited(
        app=sending(WITHOUT, headers=[STREAM]), **{**OPTIONS, "usage": lambda value: value["none"]}, clock=FakeClock()
    )
    assert (await call(app)).body == WITHOUT
    assert await charged(app) == ESTIMATE


async def test_a_function_reads_an_api_that_nobody_else_knows() -> None:
    def units(value: Any) -> int | None:
        return value.get("units")

    app = limited(app=sending(b'{"units": 33}'), **{**OPTIONS, "usage": units}, clock=FakeClock())
    await call(app)
    assert await charged(app) == 33


@pytest.mark.parametrize(
    ("report", "expected"),
    [(lambda: settle(40), 40), (lambda: settle(Usage(input_tokens=30, output_tokens=11)), 41)],
    ids=["number", "usage"],
)
async def test_what_the_app_reports_comes_before_what_the_response_says(
    report: Callable[[], None], expected: int
) -> None:
    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        report()
        await sending(body_of(USED))(scope, receive, send)

    app = limited(app=inner, **OPTIONS, clock=FakeClock())
    await call(app)
    assert await charged(app) == expected


async def test_what_the_app_reports_after_its_response_counts_too() -> None:
    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await sending(body_of(USED))(scope, receive, send)
        settle(77)

    app = limited(app=inner, **OPTIONS, clock=FakeClock())
    await call(app)
    assert await charged(app) == 77


async def test_a_report_after_the_end_of_the_request_changes_nothing_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    is_over = anyio.Event()

    async def late() -> None:
        await is_over.wait()
        settle(77)

    async with anyio.create_task_group() as tasks:

        async def inner(scope: Scope, receive: Receive, send: Send) -> None:
            await sending(body_of(USED))(scope, receive, send)
            tasks.start_soon(late)

        app = limited(app=inner, **OPTIONS, clock=FakeClock())
        await call(app)
        is_over.set()
    assert await charged(app) == 12
    assert ["settle(used) was called after" in record.message for record in caplog.records] == [True]


# --- replays ----------------------------------------------------------------------------------------------------------


async def test_a_replay_is_charged_nothing() -> None:
    inner = flexmw.Idempotency().asgi(sending(body_of(USED)))
    app = limited(app=inner, **OPTIONS, clock=FakeClock())
    for expected in (12, 12, 12):
        scope = scope_of(method="POST", headers=[("idempotency-key", "k")])
        response = await flexmw_call(app, scope)
        assert (response.status, await charged(app)) == (200, expected)
    assert scope["flexmw"].facts["flexmw.rate_limiting.settlement"] == "replayed"


@pytest.mark.parametrize(
    ("method", "path", "more", "expected"),
    [
        ("GET", "/v1/responses/resp_1", {}, 0),
        ("GET", "/v1/responses/resp_1", {"background": True}, 12),
        ("GET", "/v1/responses/resp_1", {"background": True, "status": "queued", "usage": None}, 0),
        ("GET", "/v1/chat/completions/chatcmpl-1", {}, 0),
        ("POST", "/v1/chat/completions/chatcmpl-1", {}, 0),
        ("DELETE", "/openai/v1/responses/resp_1/", {"usage": None}, 0),
        ("POST", "/v1/responses/compact", {}, 12),
        ("POST", "/v1/responses", {}, 12),
        ("POST", "/v1/completions/gpt-x", {}, 12),
    ],
)
async def test_a_stored_response_costs_nothing_when_it_is_retrieved(
    method: str, path: str, more: dict[str, Any], expected: int
) -> None:
    body = json.dumps({"model": "gpt-x", "usage": USED, **more}).encode()
    app = limited(app=sending(body), **OPTIONS, clock=FakeClock())
    await flexmw_call(app, scope_of(method=method, path=path))
    assert await charged(app) == expected


async def test_a_client_that_leaves_pays_the_usage_of_the_execution_that_goes_on() -> None:
    goes_on = anyio.Event()
    half = len(WITH_USAGE) // 2

    async def model(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [STREAM]})
        await send({"type": "http.response.body", "body": WITH_USAGE[:half], "more_body": True})
        await goes_on.wait()
        await send({"type": "http.response.body", "body": WITH_USAGE[half:], "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    app = limited(app=flexmw.Idempotency().asgi(model), **OPTIONS, clock=FakeClock())

    async def send(message: Message) -> None:
        if message.get("body"):
            goes_on.set()
            raise OSError("gone")

    for _ in range(2):  # the second one is a replay
        bodies = iter([b"{}"])

        async def receive() -> Message:
            for body in bodies:  # noqa: B023
                return {"type": "http.request", "body": body}
            await goes_on.wait()
            return {"type": "http.disconnect"}

        with suppress(OSError):
            await app(scope_of(method="POST", headers=[("idempotency-key", "k")]), receive, send)
        assert await charged(app) == 12


# --- estimates --------------------------------------------------------------------------------------------------------


async def asked(app: ASGIApp, body: bytes, *, pieces: int = 1, path: str = "/v1/chat/completions") -> AppResponse:
    size = -(-len(body) // pieces)
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    messages = iter([*chunks[:-1], chunks[-1]])

    async def receive() -> Message:
        for number, chunk in enumerate(messages, 1):
            return {"type": "http.request", "body": chunk, "more_body": number < pieces and chunk is not chunks[-1]}
        return {"type": "http.disconnect"}

    return await flexmw_call(app, scope_of(method="POST", path=path), receive)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message.get("more_body", False)
    settle(3)
    await sending(body)(scope, receive, send)


@pytest.mark.parametrize("pieces", [1, 4])
async def test_a_request_reserves_what_its_body_promises_and_the_app_gets_the_whole_body(pieces: int) -> None:
    app = limited(app=echo, tokens=f"{LIMIT}/day", token_cost="openai", clock=FakeClock())
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 400}], "max_tokens": 200}).encode()
    response = await asked(app, body, pieces=pieces)
    assert response.body == body
    assert remaining(response) == LIMIT - 304
    assert await charged(app) == 3


async def test_a_long_body_is_read_in_part_and_given_on_whole() -> None:
    app = limited(app=echo, tokens="10000000/day", token_cost="openai", clock=FakeClock())
    body = b'{"max_tokens": 5, "image": "' + b"A" * 3_000_000 + b'"}'
    response = await asked(app, body, pieces=60)
    assert response.body == body
    assert 10_000_000 - remaining(response) < 100


async def test_an_estimate_above_the_limit_waits_for_the_whole_window_and_passes() -> None:
    app = limited(app=sending(body_of(USED)), tokens="100/day", token_cost="openai", usage="openai", clock=FakeClock())
    response = await asked(app, b'{"max_tokens": 128000}')
    assert (response.status, remaining(response)) == (200, 0)
    assert (await asked(app, b'{"max_tokens": 128000}')).status == 429


async def test_a_cut_stream_counts_the_prompt_as_it_was_estimated() -> None:
    app = limited(
        app=sending(WITHOUT, headers=[STREAM]),
        tokens=f"{LIMIT}/day",
        token_cost="openai",
        usage="openai",
        clock=FakeClock(),
    )
    await asked(app, json.dumps({"prompt": "x" * 40, "max_tokens": 300}).encode())
    assert await charged(app) == 10 + 2


def test_nobody_pays_for_a_response_that_says_nothing_and_has_no_status() -> None:
    assert settled_by(Observed(), None) == ("failed", Usage())
    assert settled_by(Observed(has_left=True), None) == ("estimate", None)
    assert settled_by(Observed(status=200, is_stream=True, has_left=True), Usage(input_tokens=4))[1] == Usage(
        input_tokens=4
    )


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"usage": "openai"}, r"RateLimit\(usage=...\) = 'openai': expected tokens="),
        (
            {"tokens": "9/day", "usage": "opena"},
            r"RateLimit\(usage=...\) = 'opena': expected one of anthropic, bedrock",
        ),
        ({"tokens": "9/day", "token_cost": "opena"}, r"RateLimit\(token_cost=...\) = 'opena': expected one of"),
        ({"tokens": "9/day", "usage": 7}, r"RateLimit\(usage=...\) = 7: expected"),
        ({"tokens": "9/day", "token_cost": Decimal(3)}, r"RateLimit\(token_cost=...\)"),
    ],
)
def test_options_that_cannot_work_are_refused(options: Any, words: str) -> None:
    with pytest.raises(flexmw.ConfigError, match=words):
        flexmw.RateLimit("5/day", **options)


# --- telemetry --------------------------------------------------------------------------------------------------------


async def test_the_settlement_and_the_error_of_the_estimate_are_emitted() -> None:
    seen: list[tuple[str, Any]] = []
    for inner in (sending(body_of(USED)), sending(WITHOUT, headers=[STREAM]), sending(status=500)):
        app = limited(app=inner, **OPTIONS, clock=FakeClock())
        scope = scope_of()
        flexmw.kit.exchange.Exchange.of(scope).subscribe(lambda event, details: seen.append((event, details)))
        await flexmw_call(app, scope)
    settled = [details for event, details in seen if event == "flexmw.rate_limiting.settled"]
    assert settled[0] == {
        "basis": "usage",
        "policy": f"{LIMIT} tokens/day",
        "reserved": ESTIMATE,
        "used": 12,
        "is_known": True,
        "input_tokens": 7,
        "output_tokens": 5,
        "model": "gpt-x",
    }
    assert [(details["basis"], details["used"], details["is_known"]) for details in settled] == [
        ("usage", 12, True),
        ("counted", 2, True),
        ("failed", 0, False),
    ]
