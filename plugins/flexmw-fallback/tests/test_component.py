"""The options of Fallback, its place among other components, what it tells, and how a call that is given up ends."""

from __future__ import annotations

import copy
import logging
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from calls import SHORT, TWO, Upstreams, call
from flexmw_fallback import Fallback, FallbackOutcome, Upstream
from flexmw_fallback._core import first_by_share

import flexmw

Serve = Callable[..., Upstreams]

A, B = "https://a.test/v1", "https://b.test/v1"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("permit", "ambiguous"),
        ("permit", ("refused",)),
        ("also", (200,)),
        ("also", {True}),
        ("refusal", "no"),
        ("preamble", 1),
        ("split_by", 1),
        ("split_by", lambda request: "caller"),
        ("attempts_total", 0),
        ("deadline", 0),
        ("max_retry_after", -1),
        ("failures", 0),
        ("window", 0),
        ("cooldown", 0),
    ],
)
def test_options_that_cannot_work_are_refused(option: str, value: Any) -> None:
    with pytest.raises(flexmw.ConfigError, match=option):
        Fallback(A, B, **{option: value})


@pytest.mark.parametrize("upstreams", [(), (A,), (A, 7), (A, {"address": B})])
def test_fewer_than_two_upstreams_and_what_is_none_are_refused(upstreams: Any) -> None:
    with pytest.raises(flexmw.ConfigError, match=r"Fallback\(\*upstreams\)"):
        Fallback(*upstreams)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("url", url) for url in ("a.test", "ftp://a.test", "https://u:p@a.test", "https://a.test?x=1", "", 7)),
        ("headers", {"a": 1}),
        ("headers", "a"),
        ("rewrite", "f"),
        *(("weight", weight) for weight in (0, -1, True, float("inf"), "1")),
    ],
)
def test_an_upstream_that_cannot_work_is_refused(option: str, value: Any) -> None:
    with pytest.raises(flexmw.ConfigError, match=option):
        Upstream(**{"url": A, option: value})


def test_a_weight_without_a_function_that_names_callers_is_refused() -> None:
    with pytest.raises(flexmw.ConfigError, match=r"Upstream\(weight"):
        Fallback(Upstream(A, weight=1), Upstream(B))


def test_no_credential_is_in_a_text() -> None:
    upstream = Upstream(A, headers={"authorization": "Bearer canary"})
    stack = flexmw.Stack(Fallback(upstream, B), flexmw.Retry())
    assert "canary" not in f"{upstream!r} {stack!r} {stack.describe()}"


def test_it_belongs_inside_tagging_and_outside_retry() -> None:
    fallback = Fallback(A, B)
    flexmw.wrap_client(httpx.Client(), flexmw.Tagging(), fallback, flexmw.Retry(), flexmw.Pace()).close()
    for wrong in ((flexmw.Retry(), fallback), (fallback, flexmw.Tagging(), flexmw.Retry())):
        with pytest.raises(flexmw.ConfigError, match="right is"):
            flexmw.wrap_client(httpx.Client(), *wrong)


def test_without_retry_it_is_refused() -> None:
    with pytest.raises(flexmw.ConfigError, match="has no effect without it"):
        flexmw.wrap_client(httpx.Client(), Fallback(A, B))


def test_in_a_transport_of_ones_own_without_retry_nothing_moves_and_a_warning_says_so(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    upstreams = serve("429", "ok")
    with httpx.Client(transport=flexmw.httpx.Transport(upstreams.fallback())) as client:
        assert client.post(f"{upstreams.servers[0].url}/v1/jobs").status_code == 429
    assert "put flexmw.Retry() inside Fallback" in caplog.text


def test_tables_of_a_configuration_file_make_upstreams() -> None:
    fallback = Fallback(upstreams=[{"url": A}, {"url": B, "headers": {"authorization": "Bearer b"}}])
    assert [each.url for each in fallback.upstreams] == [A, B]
    assert fallback == Fallback(A, Upstream(B, headers={"authorization": "Bearer b"}))


INSTALLED = any(plugin.name == "flexmw.fallback" for plugin in flexmw.installed())


@pytest.mark.skipif(not INSTALLED, reason="a file names the entry point of an installed distribution")
def test_the_configuration_file_of_the_page_makes_the_stack(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[3] / "docs" / "fallback.md").read_text("utf-8")
    (tmp_path / "flexmw.toml").write_text(page.partition("```toml\n")[2].partition("```")[0])
    monkeypatch.setenv("OTHER_AUTHORIZATION", "Bearer b")
    fallback: Any = flexmw.Stack.load(tmp_path / "flexmw.toml").components[1]
    assert fallback.upstreams[1].own_headers() == {"authorization": "Bearer b"}


def test_a_copy_works_and_has_circuits_of_its_own() -> None:
    fallback = Fallback(A, B, failures=2)
    for twin in (copy.deepcopy(fallback), pickle.loads(pickle.dumps(fallback))):
        assert twin == fallback
        assert twin.circuits is not fallback.circuits


def by_header(request: Any) -> str | None:
    caller: str | None = request.headers.get("x-caller")
    return caller


def test_callers_are_split_by_weight_and_stay_where_they_are() -> None:
    shares = [(0, "a", 3.0), (1, "b", 1.0)]
    callers = [f"caller {number}" for number in range(4000)]
    first = [first_by_share(caller, shares) for caller in callers]
    assert first == [first_by_share(caller, shares) for caller in callers]
    assert 850 < Counter(first)[1] < 1150
    changed = [first_by_share(caller, [(0, "a", 3.0), (1, "b", 2.0)]) for caller in callers]
    assert {(before, after) for before, after in zip(first, changed, strict=True) if before != after} == {(0, 1)}


def test_the_calls_of_one_caller_begin_at_one_upstream_and_go_on_from_there(serve: Serve) -> None:
    upstreams = serve("ok", "ok", "ok")
    shares = ({"weight": 1.0}, {"weight": 1.0}, {})
    fallback = upstreams.fallback(*shares, split_by=by_header)
    at = {
        caller: {call(upstreams, fallback, headers={"x-caller": caller}).outcome.upstream for _ in range(2)}
        for caller in "abcdefgh"
    }
    assert all(len(origins) == 1 for origins in at.values())
    assert set.union(*at.values()) == {upstreams.servers[0].url, upstreams.servers[1].url}
    assert call(upstreams, fallback).outcome.upstream == upstreams.servers[0].url
    caller = next(caller for caller, origins in at.items() if origins == {upstreams.servers[1].url})
    upstreams.servers[1].follow("429:seconds=30")
    assert call(upstreams, fallback, headers={"x-caller": caller}).outcome.upstream == upstreams.servers[0].url


class Listening:
    """Keeps the events of the components inside."""

    name, api, order = "acme.listening", 1, flexmw.Order(before=("flexmw.fallback",))

    def __init__(self) -> None:
        self.events: list[Any] = []

    def flow(self, request: flexmw.Request) -> flexmw.Flow:
        return (yield from flexmw.send(request, lambda event, details: self.events.append((event, details))))


def test_a_switch_is_an_event_and_a_log_line(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "flexmw.fallback")
    upstreams = serve("429:seconds=30", "ok")
    a, b = (server.url for server in upstreams.servers)
    listening = Listening()
    fallback, retry = upstreams.fallback(), flexmw.Retry(clock=upstreams.clock)
    with flexmw.wrap_client(httpx.Client(), listening, fallback, retry, clock=upstreams.clock) as client:
        for _ in range(2):
            client.post(f"{a}/v1/jobs", json={})
    switched = [details for event, details in listening.events if event == "flexmw.fallback.switched"]
    assert switched == [{"from": a, "to": b, "why": "429"}, {"from": a, "to": b, "why": "cooling"}]
    assert f"{a}: 429; the call goes to {b}" in caplog.text
    assert "/v1/jobs" not in caplog.text


def test_the_outcome_is_found_on_the_response_and_on_the_error(serve: Serve) -> None:
    upstreams = serve("ok", "ok")
    outcome = call(upstreams, upstreams.fallback()).outcome
    assert isinstance(outcome, FallbackOutcome)
    assert isinstance(outcome, flexmw.Outcome)
    assert outcome.tried[0].seconds >= 0
    lost = serve("rst", "ok")
    error = call(lost, lost.fallback()).error
    assert error.flexmw.upstream == lost.servers[0].url


def test_a_call_that_is_cancelled_between_two_upstreams_sends_nothing_more(serve: Serve) -> None:
    upstreams = serve("429:seconds=30", "hang")
    fallback = upstreams.fallback()
    url = f"{upstreams.servers[0].url}/v1/jobs"

    async def main() -> None:
        client = upstreams.wrap(httpx2.AsyncClient(timeout=30.0), fallback)
        async with client, anyio.create_task_group() as tasks:
            tasks.start_soon(client.post, url)
            await anyio.to_thread.run_sync(upstreams.servers[1].wait_for, 1, "requests")
            tasks.cancel_scope.cancel()
        for server in upstreams.servers:  # each sees the end of its connection in its own time
            await anyio.to_thread.run_sync(server.wait_for, 1, "closed")

    anyio.run(main)
    assert upstreams.seen == [1, 1]
    assert all(server.open_connections == 0 for server in upstreams.servers)


@pytest.mark.parametrize("kind", TWO, ids=["blocking", "async"])
def test_a_late_response_is_never_delivered(serve: Serve, kind: Any) -> None:
    upstreams = serve("hang", "ok")
    result = call(upstreams, upstreams.fallback(permit=("ambiguous",)), kind, client={"timeout": SHORT})
    assert result.outcome.upstream == upstreams.servers[1].url
    upstreams.servers[0].wait_for(1, "closed")


def test_a_client_that_is_closed_waits_for_no_upstream() -> None:
    seen: list[str] = []

    async def respond(request: Any) -> Any:
        seen.append(request.url.host)
        if request.url.host == "b.test":
            await client.aclose()
        return httpx2.Response(429, headers={"retry-after": "50"}, json={})

    async def main() -> None:
        with anyio.fail_after(20), pytest.raises(RuntimeError, match="closed"):
            await client.post(f"{A}/jobs")

    transport = httpx2.MockTransport(respond)
    client = flexmw.wrap_client(httpx2.AsyncClient(transport=transport), Fallback(A, B), flexmw.Retry())
    anyio.run(main)
    assert seen == ["a.test", "b.test"]
