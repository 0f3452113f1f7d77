"""The wrapper against hand-made ASGI apps: what no framework sends, on asyncio and on trio."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flexmw
from flexmw.contract.stream_framing import MAX_UNIT_BYTES
from flexmw.envelope.timer import Timer
from flexmw.kit.exchange import ErrorOutcome, Exchange
from tests.waiting import LONGEST_WAIT
from tests.wire import call, scripted

pytestmark = pytest.mark.anyio

ENVELOPE = flexmw.Envelope()
EVENT = b'data: {"a":1}\n\n'
SSE = (b"content-type", b"text/event-stream")


def start(status: Any, *headers: tuple[bytes, bytes], **more: Any) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers), **more}


def body(data: bytes = b"", *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def test_a_good_response_passes_message_by_message() -> None:
    messages = [start(200, (b"content-type", b"text/plain")), body(b"a", more=True), body(b"b")]
    seen = await call(ENVELOPE.asgi(scripted(*messages)))
    assert seen.messages == messages


@pytest.mark.parametrize("status", [HTTPStatus.CREATED, HTTPStatus.NO_CONTENT, HTTPStatus.FOUND])
async def test_a_good_response_passes_whose_status_is_a_member_of_http_status(status: HTTPStatus) -> None:
    messages = [start(status), body(b"" if status is HTTPStatus.NO_CONTENT else b"as it is")]
    assert (await call(ENVELOPE.asgi(scripted(*messages)))).messages == messages


async def test_an_error_is_written_anew_whose_status_is_a_member_of_http_status() -> None:
    seen = await call(ENVELOPE.asgi(scripted(start(HTTPStatus.NOT_FOUND), body(b"Not Found"))))
    assert (seen.status, seen.error.code) == (404, "not_found")


async def test_a_second_start_after_a_good_one_is_dropped() -> None:
    seen = await call(ENVELOPE.asgi(scripted(start(200), start(201), body(b"ok"), body(b"more"))))
    assert (seen.status, seen.body) == (200, b"ok")


async def test_a_file_on_an_error_is_not_sent() -> None:
    app = scripted(start(404), {"type": "http.response.pathsend", "path": "/etc/hostname"})
    seen = await call(ENVELOPE.asgi(app))
    assert (seen.status, seen.error.code) == (404, "not_found")
    assert [message["type"] for message in seen.messages] == ["http.response.start", "http.response.body"]


async def test_a_file_on_a_good_response_passes() -> None:
    file = {"type": "http.response.pathsend", "path": "/x"}
    seen = await call(ENVELOPE.asgi(scripted(start(200), file)))
    assert seen.messages[-1] == file


@pytest.mark.parametrize("held", [False, True])
async def test_a_file_of_events_passes_after_the_events_before_it(held: bool) -> None:
    file = {"type": "http.response.pathsend", "path": "/x"}
    before = [body(EVENT, more=True), body(b"data: half", more=True)] if held else []
    seen = await call(ENVELOPE.asgi(scripted(start(200, SSE), *before, file)))
    assert seen.messages == [start(200, SSE), *before, file]


async def test_a_crash_after_a_file_went_out_is_no_failure_of_the_response() -> None:
    scope: dict[str, Any] = {}
    app = scripted(start(200), {"type": "http.response.pathsend", "path": "/x"}, then=RuntimeError("in the background"))
    exchange = Exchange.of(scope)
    seen = await call(ENVELOPE.asgi(app), scope=scope)
    assert isinstance(seen.raised, RuntimeError)
    assert (exchange.error_outcome, exchange.facts) == (None, {})


async def test_early_hints_and_debug_messages_pass() -> None:
    hint, debug = {"type": "http.response.early_hint", "links": [b"</a>"]}, {"type": "http.response.debug", "info": {}}
    seen = await call(ENVELOPE.asgi(scripted(hint, debug, start(404), body(b"No."))))
    assert seen.messages[:2] == [hint, debug]
    assert seen.error.message == "No."


async def test_trailers_of_a_good_response_pass_and_those_of_a_rewritten_one_do_not() -> None:
    trailers = {"type": "http.response.trailers", "headers": [(b"x", b"1")]}
    good = await call(ENVELOPE.asgi(scripted(start(200, trailers=True), body(), trailers)))
    bad = await call(ENVELOPE.asgi(scripted(start(400, trailers=True), body(), trailers)))
    assert good.messages[-1] == trailers
    assert trailers not in bad.messages
    assert "trailers" not in bad.starts[0]


TRAILERS = {"type": "http.response.trailers", "headers": [(b"x", b"1")]}


@pytest.mark.parametrize("last", [EVENT, b"data: [DONE]\n\n"])
async def test_trailers_of_a_stream_follow_its_end(last: bytes) -> None:
    app = scripted(start(200, SSE, trailers=True), body(last, more=True), body(), TRAILERS)
    seen = await call(ENVELOPE.asgi(app))
    assert seen.messages[1:] == [body(last, more=True), body(), TRAILERS]


async def test_trailers_that_were_not_announced_are_dropped() -> None:
    seen = await call(ENVELOPE.asgi(scripted(start(200, SSE), body(EVENT, more=True), body(), TRAILERS)))
    assert TRAILERS not in seen.messages


async def test_a_failed_stream_that_announced_trailers_ends_with_none() -> None:
    app = scripted(start(200, SSE, trailers=True), body(EVENT, more=True), then=ValueError("secret"))
    seen = await call(ENVELOPE.asgi(app))
    assert b"internal_error" in seen.messages[-2]["body"]
    assert seen.messages[-1] == {"type": "http.response.trailers", "headers": [], "more_trailers": False}


async def test_trailers_of_an_error_that_is_held_are_dropped() -> None:
    seen = await call(ENVELOPE.asgi(scripted(start(500, trailers=True), body(), TRAILERS)))
    assert [message["type"] for message in seen.messages] == ["http.response.start", "http.response.body"]


async def test_a_head_request_gets_the_length_and_no_body() -> None:
    seen = await call(ENVELOPE.asgi(scripted(start(404), body(b"Not Found"))), method="HEAD")
    assert seen.body == b""
    assert int(seen.headers["content-length"]) > 50


async def test_a_cancellation_gets_no_response() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep_forever()

    seen = None
    with anyio.move_on_after(0.01) as cancelled:
        seen = await call(ENVELOPE.asgi(app))
    assert cancelled.cancelled_caught
    assert seen is None


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_uvicorn_has_cancelled_gets_a_response_where_the_event_loop_cancels_it_again() -> None:
    """A task group waits for a thread. The end of the loop comes first, and its cancellation has no message."""
    started, goes_on = asyncio.Event(), asyncio.Event()

    async def works_on() -> None:
        with anyio.CancelScope(shield=True):
            started.set()
            await goes_on.wait()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(works_on)
            await anyio.sleep_forever()

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    request = asyncio.create_task(ENVELOPE.asgi(app)({"type": "http", "path": "/", "headers": []}, None, send))
    await started.wait()
    request.cancel("Task cancelled, timeout graceful shutdown exceeded")
    await asyncio.sleep(0)
    request.cancel()
    await asyncio.sleep(0)
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert [message.get("status") for message in sent] == [500, None]
    assert b'"code":"internal_error"' in sent[-1]["body"]


async def awaits_a_task_that_was_cancelled(scope: Any, receive: Any, send: Any) -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_cancellation_that_nobody_asked_for_is_a_crash(kind: str) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": f"{kind}.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    prefix = "" if kind == "http" else "websocket."
    scope = {"type": kind, "path": "/", "headers": [], "extensions": {"websocket.http.response": {}}}
    with pytest.raises(asyncio.CancelledError):
        await ENVELOPE.asgi(awaits_a_task_that_was_cancelled)(scope, receive, send)
    assert [(each["type"], each.get("status")) for each in sent] == [
        (f"{prefix}http.response.start", 500),
        (f"{prefix}http.response.body", None),
    ]
    assert b'"code":"internal_error"' in sent[-1]["body"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_an_exception_that_ends_the_program_gets_no_response(stop: type[BaseException]) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await anyio.sleep_forever()

    with pytest.raises(stop):
        await ENVELOPE.asgi(scripted(then=stop()))({"type": "http", "path": "/", "headers": []}, receive, send)
    assert sent == []


async def test_nothing_is_sent_to_a_client_that_has_left() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise KeyError("the app noticed")

    seen = await call(ENVELOPE.asgi(app), receives=[{"type": "http.disconnect"}])
    assert seen.messages == []
    assert isinstance(seen.raised, KeyError)


async def test_a_disconnect_while_reading_gets_no_response_and_is_not_raised() -> None:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def read(request: Request) -> Response:
        await request.body()
        raise AssertionError

    app = Starlette(routes=[Route("/", read, methods=["POST"])])
    seen = await call(ENVELOPE.asgi(app), method="POST", receives=[{"type": "http.disconnect"}])
    assert seen.messages == []
    assert seen.raised is None


async def test_a_crash_gets_a_response_and_is_raised_again_but_a_kind_is_not() -> None:
    crash, kind = ValueError("hidden"), flexmw.SubsystemOffline("The playground", retry_after=3)
    seen = await call(ENVELOPE.asgi(scripted(then=crash)))
    assert (seen.status, seen.raised) == (500, crash)
    seen = await call(ENVELOPE.asgi(scripted(then=kind)))
    assert (seen.status, seen.raised) == (503, None)
    assert seen.headers["retry-after"] == "3"
    assert seen.error.message == "The playground is temporarily offline."


async def test_a_held_500_keeps_the_hosts_headers_and_waits_for_the_exception() -> None:
    host = scripted(
        start(500, (b"access-control-allow-origin", b"*"), (b"content-type", b"text/plain")),
        body(b"Internal Server Error"),
        then=TimeoutError("10.0.0.7"),
    )
    seen = await call(ENVELOPE.asgi(host))
    assert (seen.error.code, seen.headers["access-control-allow-origin"]) == ("upstream_timeout", "*")


async def test_a_kind_that_the_host_swallows_is_remembered() -> None:
    async def host(scope: Any, receive: Any, send: Any) -> None:
        try:
            raise flexmw.InsufficientCredit(headers={"x-credit": "0"})
        except flexmw.APIError:
            pass
        await send(start(500, (b"content-type", b"text/html")))
        await send(body(b"<h1>Server Error (500)</h1>"))

    seen = await call(ENVELOPE.asgi(host))
    assert (seen.status, seen.error.code, seen.headers["x-credit"]) == (402, "402", "0")


async def test_a_kind_that_was_handled_does_not_stand_for_a_later_crash() -> None:
    async def host(scope: Any, receive: Any, send: Any) -> None:
        try:
            raise flexmw.InsufficientCredit()
        except flexmw.APIError:
            pass
        raise ValueError("later")

    seen = await call(ENVELOPE.asgi(host))
    assert seen.error.code == "internal_error"


async def test_the_hosts_own_500_page_stands_but_never_the_exceptions_text() -> None:
    async def host(scope: Any, receive: Any, send: Any) -> None:
        try:
            raise ValueError("row 7 of table users")
        except ValueError as error:
            await send(start(500))
            await send(body(json.dumps({"detail": f"oops: {error}"}).encode()))

    seen = await call(ENVELOPE.asgi(host))
    assert seen.error.message == "Internal server error."
    seen = await call(ENVELOPE.asgi(scripted(start(500), body(b'{"detail": "We are on it."}'))))
    assert seen.error.message == "We are on it."


async def test_an_error_body_that_stops_is_completed_in_time_and_its_rest_swallowed() -> None:
    released = anyio.Event()

    async def host(scope: Any, receive: Any, send: Any) -> None:
        await send(start(503))
        await send(body(b'{"deta', more=True))
        await released.wait()
        await send(body(b'il": "late"}'))

    seen = None
    app = flexmw.Envelope(max_wait=0.01).asgi(host)
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)
        if message["type"] == "http.response.body":
            released.set()

    with anyio.fail_after(LONGEST_WAIT):
        await app({"type": "http", "method": "GET", "path": "/", "headers": []}, lambda: None, send)
    assert seen is None
    assert [message["type"] for message in messages] == ["http.response.start", "http.response.body"]
    assert messages[0]["status"] == 503


async def test_a_bare_500_is_not_held_longer_than_max_wait() -> None:
    released = anyio.Event()

    async def host(scope: Any, receive: Any, send: Any) -> None:
        await send(start(500))
        await send(body(b"Internal Server Error"))
        await released.wait()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            released.set()

    with anyio.fail_after(LONGEST_WAIT):
        await flexmw.Envelope(max_wait=0.01).asgi(host)(
            {"type": "http", "method": "GET", "path": "/", "headers": []}, lambda: None, send
        )


async def test_headers_of_the_exchange_are_on_good_responses_streams_and_errors() -> None:
    def host(*messages: dict[str, Any]) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            Exchange.of(scope).headers.append((b"x-ratelimit-limit-requests", b"10"))
            await scripted(*messages)(scope, receive, send)

        return ENVELOPE.asgi(app)

    for messages in ([start(200), body()], [start(200, SSE), body(EVENT)], [start(404), body()], [start(503)]):
        seen = await call(host(*messages))
        assert seen.headers["x-ratelimit-limit-requests"] == "10"


async def test_the_exchange_learns_the_error_of_a_request() -> None:
    learnt: list[ErrorOutcome] = []

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        Exchange.of(scope).subscribe(lambda event, details: learnt.append(details["outcome"]))
        await ENVELOPE.asgi(scripted(then=crash))(scope, receive, send)

    crash = ValueError("x")
    await call(outer)
    assert learnt == [ErrorOutcome(500, "server_error", "internal_error", "unhandled_exception", crash)]


async def test_an_error_that_another_component_has_settled_stays_as_it_is() -> None:
    told: list[ErrorOutcome] = []
    written = flexmw.ModelNotFound("x", message="api_key: Field required").body.encode()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        exchange = Exchange.of(scope)
        exchange.set_error(ErrorOutcome(429, "rate_limit_error", "rate_limit_exceeded", "rate_limiting"))
        exchange.subscribe(lambda event, details: told.append(details["outcome"]))
        await scripted(start(429), body(written))(scope, receive, send)

    seen = await call(ENVELOPE.asgi(inner))
    assert seen.body == written
    assert told == []


@pytest.mark.parametrize(
    ("headers", "expected"),
    [([(b"x-request-id", b"req-7")], "req-7"), ([(b"x-request-id", b"two words")], None), ([], None)],
)
async def test_a_fit_inbound_request_id_is_used(headers: Any, expected: str | None) -> None:
    seen = await call(ENVELOPE.asgi(scripted(start(404))), headers=headers)
    assert seen.headers["x-request-id"] == expected or (expected is None and len(seen.headers["x-request-id"]) == 32)


async def test_the_hosts_own_request_id_stays() -> None:
    seen = await call(
        ENVELOPE.asgi(scripted(start(404, (b"x-request-id", b"own")))), headers=[(b"x-request-id", b"in")]
    )
    assert seen.headers["x-request-id"] == "own"


async def test_the_trace_id_is_the_request_id_where_a_span_is_current(in_memory_telemetry: Any) -> None:
    tracer = in_memory_telemetry.tracer_provider.get_tracer("test")
    with tracer.start_as_current_span("server") as span:
        seen = await call(ENVELOPE.asgi(scripted(start(404))))
    assert seen.headers["x-request-id"] == f"{span.get_span_context().trace_id:032x}"


async def test_no_request_id_and_no_retry_advice_where_they_are_switched_off() -> None:
    quiet = flexmw.Envelope(request_id=None, should_retry=False)
    seen = await call(quiet.asgi(scripted(start(402))))
    assert set(seen.headers) == {"content-type", "content-length"}


@pytest.mark.parametrize(
    ("method", "status", "headers", "advice"),
    [
        ("POST", 500, [], "false"),
        ("GET", 500, [], None),
        ("PUT", 500, [], None),
        ("POST", 500, [(b"idempotency-key", b"k")], None),
        ("POST", 503, [], None),
        ("GET", 402, [], "false"),
        ("POST", 429, [], None),
        ("GET", 409, [], "false"),
        ("GET", 501, [], "false"),
        ("POST", 404, [], None),
    ],
)
async def test_retry_advice_follows_the_table(method: str, status: int, headers: Any, advice: str | None) -> None:
    seen = await call(ENVELOPE.asgi(scripted(start(status))), method=method, headers=headers)
    assert seen.headers.get("x-should-retry") == advice


async def test_a_conflict_that_will_pass_is_not_advised_against() -> None:
    seen = await call(ENVELOPE.asgi(scripted(start(409, (b"retry-after", b"1")))))
    assert "x-should-retry" not in seen.headers


async def test_paths_and_predicates_leave_errors_alone() -> None:
    host = scripted(start(404, (b"content-type", b"text/plain")), body(b"plain"))
    alone = flexmw.Envelope(passthrough=("/legacy",), unless=lambda scope, status: "skip" in scope["path"])
    for path in ("/legacy/x", "/a/skip"):
        assert (await call(alone.asgi(host), path=path)).body == b"plain"
    assert (await call(alone.asgi(host), path="/v1")).error.message == "plain"


async def test_lifespan_is_not_touched() -> None:
    sent = {"type": "lifespan.startup.failed", "message": "x"}
    seen = await call(ENVELOPE.asgi(scripted(sent)), scope={"type": "lifespan"})
    assert seen.messages == [sent]


async def test_an_app_that_sends_a_start_and_no_event_becomes_a_500() -> None:
    seen = await call(ENVELOPE.asgi(scripted(start(200, SSE))))
    assert (seen.status, seen.error.code) == (500, "internal_error")


async def test_an_event_in_pieces_goes_out_whole() -> None:
    app = scripted(start(200, SSE), body(EVENT[:5], more=True), body(EVENT[5:] + EVENT[:3], more=True), body(EVENT[3:]))
    seen = await call(ENVELOPE.asgi(app))
    assert [m["body"] for m in seen.messages[1:]] == [EVENT, EVENT, b""]


async def test_an_event_that_never_ends_is_forwarded_and_can_only_be_cut() -> None:
    long = b"data: " + b"x" * (1024 * 1024)
    seen = await call(ENVELOPE.asgi(scripted(start(200, SSE), body(long, more=True), then=ValueError())))
    assert (seen.body, seen.ended) == (long, False)
    assert isinstance(seen.raised, ValueError)


async def test_a_compressed_or_sized_stream_is_not_touched() -> None:
    for header in ((b"content-encoding", b"gzip"), (b"content-length", b"99")):
        app = scripted(start(200, SSE, header), body(b"\x1f\x8b", more=True), then=ValueError())
        seen = await call(ENVELOPE.asgi(app))
        assert (seen.body, seen.ended) == (b"\x1f\x8b", False)


async def test_lines_end_with_an_error_where_that_is_asked_for() -> None:
    app = scripted(
        start(200, (b"content-type", b"application/x-ndjson")), body(b'{"a":1}\n{"b', more=True), then=ValueError("x")
    )
    seen = await call(flexmw.Envelope(lines=True).asgi(app))
    first, second = seen.body.splitlines()
    assert json.loads(first) == {"a": 1}
    assert json.loads(second)["error"]["code"] == "internal_error"
    assert seen.ended


async def test_the_end_of_a_stream_waits_for_the_host_and_background_tasks_still_run() -> None:
    ran: list[bool] = []

    async def host(scope: Any, receive: Any, send: Any) -> None:
        await scripted(start(200, SSE), body(EVENT, more=True), body())(scope, receive, send)
        ran.append(True)

    seen = await call(ENVELOPE.asgi(host))
    assert ran == [True]
    assert (seen.body, seen.ended) == (EVENT, True)


async def test_the_end_of_a_stream_is_not_held_after_done() -> None:
    ended: list[bool] = []
    sent: list[Any] = []

    async def host(scope: Any, receive: Any, send: Any) -> None:
        await scripted(start(200, SSE), body(b"data: [DONE]\n\n", more=True), body())(scope, receive, send)
        ended.append(not sent[-1]["more_body"])

    async def send(message: Any) -> None:
        sent.append(message)

    await ENVELOPE.asgi(host)({"type": "http", "method": "GET", "path": "/", "headers": []}, lambda: None, send)
    assert ended == [True]


async def test_the_error_event_of_the_responses_api_counts_on() -> None:
    event = b'event: response.created\ndata: {"type":"response.created","sequence_number":4}\n\n'
    app = scripted(start(200, SSE), body(event, more=True), then=flexmw.UpstreamTimeout())
    seen = await call(ENVELOPE.asgi(app), path="/v1/responses")
    assert seen.raised is None
    value = json.loads(seen.body.rpartition(b"data: ")[2])
    assert (value["type"], value["sequence_number"], value["error"]["code"]) == ("error", 5, "upstream_timeout")


# --- any app whatever -------------------------------------------------------------------------------------------------

statuses = st.sampled_from([0, 99, 200, 204, 304, 400, 404, 429, 500, 503, 599, 600, 1000, None, True])
kinds = st.sampled_from([b"application/json", b"text/html", b"text/event-stream", b"text/plain; charset=x", b"\xff"])
starts = st.builds(
    lambda status, kind, length: start(status, (b"content-type", kind), *length),
    statuses,
    kinds,
    st.sampled_from([[], [(b"content-length", b"3")], [(b"content-encoding", b"gzip")]]),
)
bodies = st.builds(
    lambda data, more: body(data, more=more),
    st.sampled_from(
        [b"", b"Internal Server Error", b'{"detail":"x"}', b"data: 1\n\n", b"\xff\x00", b"[", b"x" * 70000]
    ),
    st.booleans(),
)
others = st.sampled_from([{"type": "http.response.trailers"}, {"type": "http.response.pathsend", "path": "/x"}])
endings = st.sampled_from(
    [None, ValueError("x"), flexmw.JobNotFound(), TimeoutError(), ExceptionGroup("", [KeyError(), KeyError()])]
)


@given(st.lists(st.one_of(starts, bodies, others), max_size=6), endings, st.sampled_from(["GET", "HEAD"]))
@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_app_gets_at_most_one_start_and_a_whole_error(
    messages: list[dict[str, Any]], then: BaseException | None, method: str
) -> None:
    app = flexmw.Envelope(max_wait=0.5).asgi(scripted(*messages, then=then))
    seen = asyncio.run(asyncio.wait_for(call(app, method=method), LONGEST_WAIT))
    assert len(seen.starts) == 1
    if seen.status >= 400:
        assert 400 <= seen.status <= 599
        assert seen.ended
        assert method == "HEAD" or seen.error
        assert method == "HEAD" or seen.headers["content-length"] == str(len(seen.body))
    kinds = [message["type"] for message in seen.messages if message["type"] != "http.response.trailers"]
    assert kinds[0] == "http.response.start"


@pytest.mark.parametrize("end", [b"", b"data: [DONE]\n\n"])
async def test_what_comes_after_the_end_of_a_stream_is_dropped(end: bytes) -> None:
    app = scripted(start(200, SSE), body(EVENT, more=True), body(end), body(EVENT, more=True), body(EVENT))
    seen = await call(ENVELOPE.asgi(app))
    assert (seen.status, seen.body) == (200, EVENT + end)
    assert [message.get("more_body", False) for message in seen.messages[1:]].count(False) == 1


async def test_a_stream_with_an_event_too_long_to_hold_is_cut_when_its_host_raises() -> None:
    endless = b"data: " + b"x" * (MAX_UNIT_BYTES + 1)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in (start(200, SSE), body(endless, more=True)):
            await send(message)
        raise flexmw.UpstreamTimeout

    seen = await call(ENVELOPE.asgi(app))
    assert isinstance(seen.raised, flexmw.UpstreamTimeout)
    assert seen.body == endless
    assert not seen.ended


@pytest.mark.parametrize("status", [200, 403, 500])
@pytest.mark.parametrize("pieces", [1, 2])
async def test_a_denial_of_a_websocket_is_sent_once_and_leaves_no_timer(status: int, pieces: int) -> None:
    sent: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in (start(status), *[body(b"No.", more=True)] * (pieces - 1), body(b"No.")):
            await send({**message, "type": f"websocket.{message['type']}"})

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    extensions: dict[str, Any] = {"websocket.http.response": {}}
    timers: list[str] = []

    class Watched(Timer):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            timers.append("set")

        async def stop(self) -> None:
            await super().stop()
            timers.append("stopped")

    scope = {"type": "websocket", "path": "/", "headers": [], "extensions": extensions}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flexmw.envelope.responder.Timer", Watched)
        await ENVELOPE.asgi(app)(scope, receive, send)
    assert sent.count("websocket.http.response.start") == 1
    assert sent[-1] == "websocket.http.response.body"
    assert timers in ([], ["set", "stopped"])
