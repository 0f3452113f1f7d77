from __future__ import annotations

from typing import Any

import anyio
import pytest

from flexmw.errors import JobNotFound, ModelNotFound, UpstreamTimeout, raised
from flexmw.kit.exchange import KEY, ErrorOutcome, Exchange, too_late, unclaimed
from flexmw.kit.merged_headers import expect_headers


def test_there_is_one_exchange_for_a_request_and_it_lives_in_the_scope() -> None:
    scope: dict[str, Any] = {"type": "http"}
    exchange = Exchange.of(scope)
    assert Exchange.of(scope) is exchange
    assert Exchange.of({**scope}) is exchange, "a host that copies the scope keeps it"
    assert set(scope) == {"type", KEY}
    assert Exchange.of({"type": "http"}) is not exchange


def test_a_new_exchange_knows_nothing_and_shares_nothing() -> None:
    one, other = Exchange.of({}), Exchange.of({})
    one.headers.append((b"a", b"1"))
    one.facts["x"] = 1
    assert (other.headers, other.facts, other.remembered, other.error_outcome) == ([], {}, None, None)


def test_missing_headers_are_added_and_those_that_are_there_win_in_any_case() -> None:
    exchange = Exchange.of({})
    own = [(b"Allow", b"GET"), (b"x-b", b"own")]
    assert exchange.complete(iter(own)) == own
    exchange.headers += [(b"x-a", b"1"), (b"allow", b"PUT"), (b"x-a", b"2"), (b"x-b", b"no")]
    assert exchange.complete(own) == [(b"Allow", b"GET"), (b"x-b", b"own"), (b"x-a", b"1"), (b"x-a", b"2")]
    assert own == [(b"Allow", b"GET"), (b"x-b", b"own")]


def test_an_observer_that_has_left_gets_no_event_and_the_others_do() -> None:
    exchange, heard = Exchange.of({}), list[str]()

    def leaves(event: str, details: Any) -> None:
        heard.append(f"leaves {event}")

    exchange.subscribe(leaves)
    exchange.subscribe(lambda event, details: heard.append(f"stays {event}"))
    exchange.emit("a", {})
    exchange.unsubscribe(leaves)
    exchange.emit("b", {})
    assert heard == ["leaves a", "stays a", "stays b"]
    assert leaves not in exchange.observers


def test_every_observer_gets_every_event_in_order() -> None:
    exchange, heard = Exchange.of({}), list[Any]()
    exchange.emit("unheard", {})
    exchange.subscribe(lambda event, details: heard.append(("a", event, details)))
    exchange.subscribe(lambda event, details: heard.append(("b", event, details)))
    exchange.emit("one", {"n": 1})
    answer = ErrorOutcome(404, "t", "c", "http_exception")
    exchange.set_error(answer)
    assert exchange.error_outcome is answer
    assert heard == [
        ("a", "one", {"n": 1}),
        ("b", "one", {"n": 1}),
        ("a", "flexmw.error.decided", {"outcome": answer}),
        ("b", "flexmw.error.decided", {"outcome": answer}),
    ]


def test_a_response_passes_through_unless_someone_says_otherwise() -> None:
    assert ErrorOutcome(200) == ErrorOutcome(200, None, None, "passthrough", None)


def test_while_it_is_entered_it_remembers_the_last_error_that_the_app_made() -> None:
    exchange = Exchange.of({})
    JobNotFound()
    with exchange as entered:
        assert entered is exchange
        assert exchange.remembered is None
        JobNotFound()
        last = ModelNotFound("foo")
    JobNotFound()
    assert exchange.remembered is last
    assert raised.get() is None


def test_it_can_be_entered_by_several_components_and_remembers_until_the_outermost_leaves() -> None:
    exchange = Exchange.of({})
    with exchange:
        with exchange:
            pass
        kept = UpstreamTimeout()
    assert exchange.remembered is kept
    JobNotFound()
    assert exchange.remembered is kept
    with exchange:
        again = JobNotFound()
    assert exchange.remembered is again


def test_an_error_leaves_it_as_it_was() -> None:
    exchange = Exchange.of({})
    with pytest.raises(KeyError), exchange:
        raise KeyError
    assert raised.get() is None


def test_a_request_inside_a_request_keeps_its_own() -> None:
    outer, inner = Exchange.of({}), Exchange.of({})
    with outer:
        first = JobNotFound()
        with inner:
            second = ModelNotFound("foo")
        assert (outer.remembered, inner.remembered) == (first, second)
        third = UpstreamTimeout()
    assert (outer.remembered, inner.remembered) == (third, second)


@pytest.mark.anyio
async def test_a_component_in_a_child_task_may_enter_too() -> None:
    exchange = Exchange.of({})

    async def child() -> None:
        with exchange:
            await anyio.lowlevel.checkpoint()
            JobNotFound(message="child")

    with exchange:
        async with anyio.create_task_group() as group:
            group.start_soon(child)
        assert exchange.remembered is not None
        assert exchange.remembered.message == "child"
        after = JobNotFound(message="after")
    assert exchange.remembered is after
    assert raised.get() is None


@pytest.mark.anyio
async def test_parts_of_one_request_beside_each_other_may_enter_and_leave_in_any_order() -> None:
    exchange, entered, left = Exchange.of({}), anyio.Event(), anyio.Event()
    heard: list[Any] = []

    async def first() -> None:
        with exchange:
            await entered.wait()
        heard.append(raised.get())
        left.set()

    async def second() -> None:
        with exchange:
            entered.set()
            await left.wait()
            heard.append(JobNotFound(message="after the first one has left"))
        heard.append(raised.get())

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        group.start_soon(second)
    assert heard == [None, exchange.remembered, None]


@pytest.mark.parametrize(
    "headers",
    [
        iter([(b"authorization", b"Bearer k"), (b"a", b"1")]),
        ((b"authorization", b"Bearer k"), (b"a", b"1")),
        (pair for pair in [[b"authorization", b"Bearer k"], [b"a", b"1"]]),
        [(memoryview(b"authorization"), memoryview(b"Bearer k")), (memoryview(b"a"), memoryview(b"1"))],
        [(bytearray(b"authorization"), bytearray(b"Bearer k")), (bytearray(b"a"), bytearray(b"1"))],
    ],
    ids=["an iterator", "a tuple", "a generator of lists", "memoryviews", "bytearrays"],
)
def test_headers_that_can_be_read_once_or_are_not_bytes_become_a_list_of_bytes(headers: Any) -> None:
    scope: dict[str, Any] = {"type": "http", "headers": headers}
    Exchange.of(scope)
    assert scope["headers"] == [(b"authorization", b"Bearer k"), (b"a", b"1")]
    assert {type(part) for pair in scope["headers"] for part in pair} == {bytes}


@pytest.mark.parametrize("headers", [[(b"a", b"1")], []], ids=["one header", "no header"])
def test_a_list_of_headers_is_not_copied(headers: list[tuple[bytes, bytes]]) -> None:
    scope: dict[str, Any] = {"type": "http", "headers": headers}
    Exchange.of(scope)
    assert scope["headers"] is headers


def test_a_scope_without_headers_gets_none() -> None:
    Exchange.of(scope := {"type": "http"})
    assert "headers" not in scope


def test_of_several_headers_only_those_that_the_response_has_are_left_out() -> None:
    exchange = Exchange.of({"type": "http"})
    exchange.headers += [(b"a", b"1"), (b"b", b"2"), (b"b", b"3")]
    assert exchange.complete([(b"A", b"0")]) == [(b"A", b"0"), (b"b", b"2"), (b"b", b"3")]


def test_a_name_that_responses_had_before_an_exchange_added_it_is_still_compared() -> None:
    """Names of responses are remembered as harmless, which one of them stops to be."""
    plain, added = Exchange.of({}), Exchange.of({})
    plain.headers.append((b"x-known-first", b"1"))
    response = [(b"X-Becomes-Added", b"app"), (b"content-type", b"a")]
    for _ in range(2):
        assert plain.complete(response) == [*response, (b"x-known-first", b"1")]
    added.headers.append((b"x-becomes-added", b"exchange"))
    for _ in range(2):
        assert added.complete(response) == response
        assert added.complete([(b"etag", b"a")]) == [(b"etag", b"a"), (b"x-becomes-added", b"exchange")]


def test_expected_headers_are_left_out_where_the_response_has_them_in_any_case() -> None:
    plain, expected = Exchange.of({}), Exchange.of({})
    plain.headers.append((b"x-known-first", b"1"))
    response = [(b"X-Expected", b"app"), (b"content-type", b"a")]
    assert plain.complete(response) == [*response, (b"x-known-first", b"1")]
    assert expect_headers(b"x-expected")
    expected.headers, expected.known = [(b"x-expected", b"exchange")], 1
    for _ in range(2):
        assert expected.complete(response) == response
        assert expected.complete([(b"content-type", b"a")]) == [(b"content-type", b"a"), (b"x-expected", b"exchange")]
    expected.headers.append((b"x-not-expected", b"1"))
    assert expected.complete([*response, (b"X-Not-Expected", b"app")]) == [*response, (b"X-Not-Expected", b"app")]
    assert not expect_headers(b"x" * 1000), "too long to be remembered"


def test_more_names_than_are_remembered_are_compared_all_the_same() -> None:
    exchange = Exchange.of({})
    exchange.headers.append((b"x-added", b"1"))
    for number in range(1500):
        name = b"x-response-%d" % number
        assert exchange.complete([(name, b"a"), (b"X-Added", b"b")]) == [(name, b"a"), (b"X-Added", b"b")]
        assert exchange.complete([(name, b"a")]) == [(name, b"a"), (b"x-added", b"1")]


async def _discard(message: Any) -> None:
    pass


def test_an_app_that_sends_after_it_has_returned_is_told_so() -> None:
    exchange = Exchange.of({})
    assert exchange.forward is unclaimed
    with pytest.raises(RuntimeError, match=r"no component forwards the message 'http.response.body'"):
        exchange.send({"type": "http.response.body"})
    exchange.forward = too_late
    with pytest.raises(OSError, match=r"'http.response.body' after it has returned"):
        exchange.send({"type": "http.response.body"})


@pytest.mark.anyio
@pytest.mark.parametrize(("status", "judged"), [(200, []), (401, [("key", 401)]), (403, [("key", 403)]), (500, [])])
async def test_a_status_that_refuses_the_credential_is_a_verdict_on_the_key(status: int, judged: list[Any]) -> None:
    exchange, verdicts = Exchange.of({}), list[Any]()
    exchange.judged_key = (lambda key, status: verdicts.append((key, status))), "key"
    exchange.forward = _discard
    await exchange.send({"type": "http.response.start", "status": status, "headers": []})
    await exchange.send({"type": "http.response.body", "status": 401})
    assert verdicts == judged
