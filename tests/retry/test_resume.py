"""Streams whose connection is cut: against another implementation of the wire, on real sockets."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import httpx
import httpx2
import pytest

import flexmw
from flexmw import ConfigError, Retry
from flexmw.testing import HostileServer
from flexmw.testing.hostile import Fault, Received, Response
from tests.clients.wires import WIRES, Wire
from tests.retry.stream_server import SSE, Cut, Kept, StreamServer, refusal

pytestmark = pytest.mark.anyio

FAST = 0.0
"""What the client's source of randomness gives: the shortest delays."""

HEADERS = {"idempotency-key": "k-1"}


def retry(**options: Any) -> Retry:
    return Retry(random=lambda: FAST, **options)


def post(
    server: HostileServer, wire: Wire = WIRES[0], times: int = 1, policy: Retry | None = None, **options: Any
) -> Any:
    options = {"headers": HEADERS, "json": {"stream": True}, **options}
    results = wire.call("POST", server.url + "/v1/jobs", policy or retry(), times=times, **options)
    return results if times > 1 else results[0]


@pytest.mark.parametrize("wire", WIRES, ids=str)
@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_stream_is_whole_after_cuts_on_every_client(wire: Wire, how: Any) -> None:
    script = StreamServer(cuts=[Cut(7, how), Cut(0, how), Cut(100, how)])
    with HostileServer(script) as server:
        response = post(server, wire)
    assert response.content == SSE
    assert server.executions == 1
    report = response.extensions["flexmw.stream"]
    assert (report.resumed, report.bytes) == (3, len(SSE))
    assert response.extensions["flexmw"].outcome == "answered"


def test_a_stream_is_whole_after_a_cut_at_every_byte() -> None:
    script = StreamServer()
    with (
        HostileServer(script) as server,
        flexmw.wrap_client(httpx.Client(trust_env=False), retry(budget_ratio=10)) as client,
    ):
        for size in range(len(SSE)):
            script.cuts = [Cut(size, "fin" if size % 2 else "rst")]
            response = client.post(server.url, headers={"idempotency-key": f"k-{size}"}, json={})
            assert response.content == SSE, size
            assert response.extensions["flexmw.stream"].resumed == 1
    assert server.executions == len(SSE)


def test_the_same_request_asks_for_the_rest() -> None:
    script = StreamServer(cuts=[Cut(7)])
    with HostileServer(script) as server:
        post(server, headers={**HEADERS, "authorization": "Bearer t"})
    first, second = server.requests
    assert (second.method, second.target, second.body) == (first.method, first.target, first.body)
    names = {"idempotency-key", "authorization", "accept-encoding", "content-type"}
    assert {name: second.header(name) for name in names} == {name: first.header(name) for name in names}
    assert script.fields == [None, f'"{script.kept["k-1"].generation}";from=7']


def test_a_hundred_cuts_are_survived_and_draw_little_on_the_budget() -> None:
    script = StreamServer(body=SSE * 4, cuts=[Cut(10)] * 100)
    with HostileServer(script) as server:
        response = post(server, policy=retry(budget_ratio=0.0, budget_per_second=0.0))
    assert response.content == SSE * 4
    assert response.extensions["flexmw.stream"].resumed == 100


@pytest.mark.parametrize("http2", [False, True])
def test_a_json_response_with_a_length_is_whole_too(http2: bool) -> None:
    script = StreamServer(body=b'{"a": 1}' * 50, cuts=[Cut(30)], length=True, content_type="application/json")
    with HostileServer(script, http2=http2) as server:
        client = {"http2": True, "http1": False} if http2 else {}
        response = post(server, client=client)
    assert response.content == b'{"a": 1}' * 50
    assert server.executions == 1


@pytest.mark.parametrize("wire", [wire for wire in WIRES if "trio" not in str(wire)], ids=str)
def test_an_http2_response_that_ends_before_its_length_is_whole(wire: Wire) -> None:
    script = StreamServer(cuts=[Cut(30, "clean")], length=True)
    with HostileServer(script, http2=True) as server:
        # Head and body may come in one read: then the head is lost too, and only a known server is asked again.
        policy = retry(key_origins=(server.url,))
        response = post(server, wire, policy=policy, client={"http2": True, "http1": False})
    assert response.content == SSE
    assert server.executions == 1


@pytest.mark.parametrize("wire", WIRES, ids=str)
@pytest.mark.parametrize("how", ["rst", "reset_stream", "go_away"])
def test_a_stream_over_http2_is_whole_after_cuts(wire: Wire, how: Any) -> None:
    script = StreamServer(cuts=[Cut(7, how), Cut(100, how)])
    with HostileServer(script, http2=True) as server:
        # The reset may overtake the head: only a known server is asked again then.
        policy = retry(key_origins=(server.url,))
        response = post(server, wire, policy=policy, client={"http2": True, "http1": False})
    assert response.content == SSE
    assert server.executions == 1


def test_the_continuation_of_a_redirected_call_goes_to_the_final_url() -> None:
    script = StreamServer(cuts=[Cut(7)])

    def redirect(request: Received) -> Any:
        if request.path == "/v1/jobs":
            return Response(307, headers=(("location", "/v2/jobs"),), executes=False)
        return script(request)

    with HostileServer(redirect) as server:
        response = post(server, client={"follow_redirects": True})
    assert response.content == SSE
    assert [request.path for request in server.requests] == ["/v1/jobs", "/v2/jobs", "/v2/jobs"]


def test_a_response_that_a_mock_has_made_is_left_as_it_is() -> None:
    headers = {"idempotent-stream": '"0f8fad5bd9cb469fa165"', "content-type": "text/event-stream"}
    sent: list[httpx.Request] = []

    def respond(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, headers=headers, content=b"data: 1")

    with flexmw.wrap_client(httpx.Client(transport=httpx.MockTransport(respond)), retry()) as client:
        response = client.post("https://api.test/", headers=HEADERS, json={})
    assert response.content == b"data: 1"
    assert len(sent) == 1


@pytest.mark.parametrize("field", ["", "abc", '"short"', '"0f8fad5bd9cb469fa165";from=x'])
def test_a_field_that_cannot_be_read_is_no_field(field: str) -> None:
    def respond(request: Received) -> Any:
        return Lost(field)

    with HostileServer(respond) as server:
        error = post(server)
    assert flexmw.outcome_of(error).reason == "unsafe_method"  # type: ignore[union-attr]
    assert len(server.requests) == 1


class Lost(Fault):
    def __init__(self, field: str) -> None:
        self.field = field

    def run(self, exchange: Any) -> None:
        exchange.execute()
        exchange.start(200, (("idempotent-stream", self.field),), None)
        exchange.send(b"data: 1")
        exchange.close("fin")


def test_a_clean_end_that_lies_is_found_out() -> None:
    for size in (0, 7, 17, 34):
        script = StreamServer(cuts=[Cut(size, "clean"), Cut(5, "clean")])
        with HostileServer(script) as server:
            response = post(server)
        assert response.content == SSE
        assert response.extensions["flexmw.stream"].resumed >= 1
        assert server.executions == 1


def test_a_known_terminal_event_needs_no_confirmation() -> None:
    with HostileServer(StreamServer()) as server:
        assert post(server).content == SSE
    assert len(server.requests) == 1


@pytest.mark.parametrize("later_length", [True, False])
def test_any_other_clean_end_is_confirmed(later_length: bool) -> None:
    body = b'data: {"n": 1}\n\n'
    script = StreamServer(body=body)
    script.later_length = later_length
    with HostileServer(script) as server:
        response = post(server)
    assert response.content == body
    assert len(server.requests) == (2 if later_length else 3)
    assert response.extensions["flexmw.stream"].resumed == (0 if later_length else 2)


def test_an_end_that_no_server_can_confirm_counts_after_a_whole_event() -> None:
    body = b'data: {"n": 1}\n\n'
    for data, whole in ((body, True), (body[:-1], False)):
        script = StreamServer(body=data, refusals=[refusal(409, "idempotency_answer_not_kept")])
        with HostileServer(script) as server:
            result = post(server)
        assert isinstance(result, httpx.Response) is whole
        assert server.executions == 1


LOSSES = [
    ([refusal(410, "idempotency_stream_gone")], "stream_gone"),
    ([refusal(410)], "stream_gone"),
    ([refusal(409, "idempotency_stream_changed")], "stream_changed"),
    ([refusal(409, "idempotency_unknown")], "stream_lost"),
    ([refusal(409, "idempotency_answer_not_kept")], "stream_too_large"),
    ([refusal(422, "idempotency_key_reused")], "stream_lost"),
    ([refusal(400, "idempotency_stream_invalid")], "stream_lost"),
    ([refusal(401)], "stream_lost"),
    ([refusal(404)], "stream_lost"),
    ([refusal(500)], "stream_lost"),
    ([refusal(503, x_should_retry="false")], "stream_lost"),
    ([refusal(503, retry_after="7200")], "resume_exhausted"),
]


@pytest.mark.parametrize("wire", WIRES[:2], ids=str)
@pytest.mark.parametrize(("refusals", "reason"), LOSSES, ids=[f"{loss[1]}-{n}" for n, loss in enumerate(LOSSES)])
def test_what_cannot_be_mended_raises_the_original_error(wire: Wire, refusals: Any, reason: str) -> None:
    with HostileServer(StreamServer(cuts=[Cut(7)], refusals=refusals)) as server:
        error = post(server, wire)
    assert type(error) is wire.library.RemoteProtocolError
    assert "incomplete chunked read" in str(error)
    outcome = flexmw.outcome_of(error)
    assert outcome is not None
    assert (outcome.outcome, outcome.reason, outcome.received) == ("ambiguous", reason, 7)
    assert (len(server.requests), server.executions) == (2, 1)


def test_a_server_that_says_come_back_is_asked_again() -> None:
    refusals = [refusal(503, retry_after_ms="1"), refusal(429, retry_after_ms="1"), refusal(502), refusal(504)]
    with HostileServer(StreamServer(cuts=[Cut(7)], refusals=refusals)) as server:
        assert post(server).content == SSE
    assert server.executions == 1


def test_attempts_without_progress_are_limited() -> None:
    with HostileServer(StreamServer(cuts=[Cut(7), *[Cut(0)] * 99])) as server:
        error = post(server, policy=retry(resume=3))
    outcome = flexmw.outcome_of(error)
    assert outcome is not None
    assert (outcome.reason, outcome.received, len(server.requests)) == ("resume_exhausted", 7, 4)


def test_patience_the_deadline_and_the_budget_end_a_resumption() -> None:
    busy = refusal(503, retry_after_ms="50000")
    for policy in (
        retry(resume_patience=30.0),
        retry(deadline=40.0),
        retry(budget_ratio=0.0, budget_per_second=0.0),
    ):
        again = [busy] * 99 if policy.budget_per_second else [refusal(503)] * 99
        with HostileServer(StreamServer(cuts=[Cut(7)], refusals=again)) as server:
            error = post(server, policy=policy)
        outcome = flexmw.outcome_of(error)
        assert outcome is not None
        assert (outcome.reason, outcome.received) == ("resume_exhausted", 7)
        assert 2 <= len(server.requests) < 5


def test_a_second_silence_without_a_byte_is_raised() -> None:
    script = StreamServer(cuts=[Cut(7, "silent"), Cut(5, "silent"), Cut(0, "silent"), None])
    with HostileServer(script) as server:
        error = post(server, read=0.2)
    assert isinstance(error, httpx.ReadTimeout)
    outcome = flexmw.outcome_of(error)
    assert outcome is not None
    assert (outcome.reason, outcome.received, len(server.requests)) == ("resume_exhausted", 12, 3)


def test_bytes_that_differ_are_never_joined() -> None:
    script = StreamServer(cuts=[Cut(7)])
    with HostileServer(script) as server:

        def changed(request: Received) -> Any:
            if script.kept:
                (kept,) = script.kept.values()
                script.kept["k-1"] = Kept(b"X" + kept.body[1:], kept.generation)
            return script(request)

        server.follow(changed)
        error = post(server)
    assert flexmw.outcome_of(error).reason == "stream_differs"  # type: ignore[union-attr]


@pytest.mark.parametrize("wire", WIRES, ids=str)
def test_a_server_that_only_replays_is_asked_for_all_of_it(wire: Wire) -> None:
    running = refusal(409, "idempotency_in_progress", retry_after_ms="1")
    script = StreamServer(cuts=[Cut(40), Cut(20), Cut(90)], refusals=[running], keeps=False)
    with HostileServer(script) as server:
        response = post(server, wire)
    assert response.content == SSE
    assert script.fields == [None] * len(server.requests)
    assert server.executions == 1
    assert server.requests[1].header("prefer") == "wait=10"


def test_a_replay_that_differs_is_never_joined() -> None:
    for changed in (b"X" + SSE[1:], SSE[:30]):
        script = StreamServer(cuts=[Cut(40)], keeps=False)
        with HostileServer(script) as server:

            def replace(request: Received, script: Any = script, changed: bytes = changed) -> Any:
                if script.kept:
                    script.kept["k-1"] = Kept(changed)
                return script(request)

            server.follow(replace)
            error = post(server)
        assert flexmw.outcome_of(error).reason == "stream_differs"  # type: ignore[union-attr]


def test_a_declared_origin_replays_only_where_the_user_says_so() -> None:
    for resume, whole in ((5, False), ("replay", True)):
        with HostileServer(StreamServer(cuts=[Cut(40)], keeps=False, ttl=False)) as server:
            result = post(server, policy=retry(key_origins=(server.url,), resume=resume))
            assert isinstance(result, httpx.Response) is whole
            if not whole:
                assert flexmw.outcome_of(result).reason == "body_broken"  # type: ignore[union-attr]
                assert len(server.requests) == 1


def test_a_call_without_a_key_an_unknown_server_and_a_generator_are_not_continued() -> None:
    def body() -> Iterator[bytes]:
        yield b"{}"

    cases: list[tuple[StreamServer, dict[str, Any]]] = [
        (StreamServer(cuts=[Cut(7)]), {"headers": {}}),
        (StreamServer(cuts=[Cut(7)], keeps=False, ttl=False), {}),
        (StreamServer(cuts=[Cut(7)]), {"json": None, "content": body}),
        (StreamServer(cuts=[Cut(7)]), {"policy": retry(resume=0)}),
    ]
    for script, options in cases:
        with HostileServer(script) as server:
            error = post(server, **options)
        assert isinstance(error, httpx.RemoteProtocolError)
        assert flexmw.outcome_of(error) is not None
        assert len(server.requests) == 1


def test_a_server_that_refuses_connections_for_a_while_is_waited_for() -> None:
    refusing, over = threading.Event(), threading.Event()

    def refuse(server: HostileServer) -> None:
        with server.refusing():
            refusing.set()
            over.wait(5.0)

    class Seen:
        """A component inside of Retry that ends the refusals once one was met."""

        def flow(self, request: Any) -> Any:
            try:
                return (yield flexmw.Send(request))
            except httpx.ConnectError:
                over.set()
                raise

    with (
        HostileServer(StreamServer(cuts=[Cut(7)])) as server,
        flexmw.wrap_client(httpx.Client(trust_env=False), retry(), Seen()) as client,
        client.stream("POST", server.url, headers=HEADERS, json={}) as response,
    ):
        thread = threading.Thread(target=refuse, args=(server,))
        thread.start()
        refusing.wait(5.0)
        received = b"".join(response.iter_raw())
        thread.join()
    assert received == SSE
    assert over.is_set()


def test_leaving_the_loop_or_closing_asks_for_nothing() -> None:
    with (
        HostileServer(StreamServer(cuts=[Cut(7)])) as server,
        flexmw.wrap_client(httpx.Client(trust_env=False), retry()) as client,
    ):
        with client.stream("POST", server.url, headers=HEADERS, json={}) as response:
            for _ in response.iter_raw():
                break
        assert len(server.requests) == 1


async def test_a_cancellation_at_any_step_leaves_nothing_open_and_asks_for_nothing_more() -> None:
    sends: list[Any] = []

    class Inner:
        def flow(self, request: Any) -> Any:
            sends.append(request)
            return (yield flexmw.Send(request))

    script = StreamServer()
    with HostileServer(script) as server:
        client = flexmw.wrap_client(httpx2.AsyncClient(trust_env=False), retry(), Inner())
        async with client:
            for steps in range(0, 60, 3):
                script.cuts = [Cut(7), Cut(9), Cut(11)]
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(read, client, server.url, f"k-{steps}")
                    for _ in range(steps):
                        await anyio.lowlevel.checkpoint()
                    tasks.cancel_scope.cancel()
                sent = len(sends)
                for _ in range(50):
                    await anyio.lowlevel.checkpoint()
                assert len(sends) == sent
            pool = client._transport.wrapped._pool  # type: ignore[attr-defined]
            assert all(connection.is_idle() or connection.is_closed() for connection in pool.connections)


async def read(client: httpx2.AsyncClient, url: str, key: str) -> None:
    async with client.stream("POST", url, headers={"idempotency-key": key}, json={}) as response:
        async for _ in response.aiter_raw():
            pass


def test_events_and_log_lines_tell_of_cuts_resumptions_and_losses(caplog: pytest.LogCaptureFixture) -> None:
    events: list[tuple[str, dict[str, Any]]] = []

    class Outer:
        def flow(self, request: Any) -> Any:
            return (yield flexmw.Send(request, lambda event, details: events.append((event, dict(details)))))

    caplog.set_level(logging.INFO, "flexmw.retry")
    refusals = [None, refusal(410)]
    with HostileServer(StreamServer(cuts=[Cut(7), Cut(9)], refusals=refusals)) as server:
        wires = WIRES[0].call("POST", server.url, Outer(), retry(), headers=HEADERS, json={})
    assert isinstance(wires[0], httpx.RemoteProtocolError)
    told = [(event, details) for event, details in events if event.startswith("flexmw.stream.")]
    assert [event for event, _ in told] == [
        "flexmw.stream.cut", "flexmw.stream.resumed", "flexmw.stream.cut", "flexmw.stream.lost",
    ]  # fmt: skip
    assert told[0][1] == {"error_type": "RemoteProtocolError", "offset": 7}
    assert (told[1][1]["attempt"], told[1][1]["offset"]) == (2, 7)
    assert told[3][1] == {"reason": "stream_gone", "error_type": "RemoteProtocolError", "offset": 16}
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(": ", 1)[1].split(" after ")[0] for line in lines[:3]] == [
        "the response was cut", "request 2 continues the response at byte 7", "the response was cut",
    ]  # fmt: skip
    assert "reason: stream_gone, 16 bytes received" in lines[3]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"resume": "always"}, "'replay'"),
        ({"resume": -1}, "0 to 100"),
        ({"resume": True}, "0 to 100"),
        ({"resume_patience": 0}, "above 0"),
        ({"resume": "replay"}, "key_origins"),
        ({"resume": 0, "resume_patience": 5.0}, "no effect with resume=0"),
    ],
)
def test_an_option_that_can_have_no_effect_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Retry(**options)


def test_the_options_of_one_call_may_be_given_without_the_others() -> None:
    for options in ({"resume": "replay"}, {"resume_patience": 5.0}, {"resume": 0}):
        with flexmw.retry_options(**options):
            pass


WAITS: list[Callable[[], Any]] = [
    lambda: refusal(409, "idempotency_in_progress", retry_after_ms="1"),
    lambda: refusal(504, retry_after_ms="1"),
    lambda: refusal(502, retry_after_ms="1"),
]


@pytest.mark.parametrize("wait", WAITS, ids=["409", "504", "502"])
def test_an_execution_under_an_honoured_key_is_waited_for_beyond_the_attempts(wait: Any) -> None:
    script = StreamServer(refusals=[wait() for _ in range(4)])

    def lose_the_first(request: Received) -> Any:
        response = script(request)
        return "rst" if len(script.fields) == 1 else response

    with HostileServer(lose_the_first) as server:
        response = post(server, policy=retry(key_origins=(server.url,)))
    assert response.content == SSE
    assert (len(server.requests), server.executions) == (6, 1)
    assert [request.header("prefer") for request in server.requests] == [None, *["wait=10"] * 5]
    assert all(request.header("accept-encoding") for request in server.requests)


def test_one_attempt_is_one_attempt() -> None:
    with HostileServer(then="504") as server:
        response = post(server, policy=retry(key_origins=(server.url,), attempts=1))
    assert (response.status_code, len(server.requests)) == (504, 1)


def test_a_stream_asks_for_no_compression() -> None:
    with HostileServer(StreamServer()) as server, flexmw.wrap_client(httpx.Client(trust_env=False), retry()) as client:
        with client.stream("POST", server.url, headers=HEADERS, json={}) as response:
            assert response.read() == SSE
        client.post(server.url, headers={"idempotency-key": "k-2"}, json={})
        client.post(server.url, json={})
    codings = [request.header("accept-encoding") for request in server.requests]
    assert codings[0] == "identity"
    assert "identity" not in codings[1:]


@pytest.mark.parametrize(
    ("signature", "coding"),
    [
        ({"authorization": "AWS4-HMAC-SHA256 Credential=a/s, SignedHeaders=accept-encoding;host, Signature=0"}, "br"),
        ({"signature-input": 'sig=("@method" "Accept-Encoding");created=1'}, "br"),
        ({"authorization": 'Signature keyId="a",headers="(request-target) Accept-Encoding",signature="0"'}, "br"),
        ({"signature": 'keyId="a",headers="host accept-encoding",signature="0"'}, "br"),
        ({"authorization": "AWS4-HMAC-SHA256 Credential=a/s, SignedHeaders=host, Signature=0"}, "identity"),
    ],
)
def test_a_header_that_the_signature_of_a_stream_covers_stays(signature: dict[str, str], coding: str) -> None:
    headers = {**HEADERS, "accept-encoding": "br", **signature}
    with (
        HostileServer(StreamServer()) as server,
        flexmw.wrap_client(httpx.Client(trust_env=False), retry()) as client,
        client.stream("POST", server.url, headers=headers, json={}) as response,
    ):
        assert response.read() == SSE
    assert [request.header("accept-encoding") for request in server.requests] == [coding]
