"""What people do with a client, with every client component around its transport."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import httpx
import httpx2
import pytest

import flexmw
from flexmw.testing import HostileServer

libraries = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])


def first_delay() -> float:
    return 0.0


def wrapped(client: Any) -> Any:
    retry = flexmw.Retry(jitter=0.0, random=first_delay)
    return flexmw.wrap_client(client, flexmw.Tagging(), retry, flexmw.Pace(), flexmw.Envelope())


@libraries
def test_an_error_that_a_response_hook_raises_has_the_outcome(library: Any) -> None:
    hooks = {"response": [lambda response: response.raise_for_status()]}
    with (
        HostileServer(["500"]) as server,
        wrapped(library.Client(verify=False, trust_env=False, event_hooks=hooks)) as client,
    ):
        with pytest.raises(library.HTTPStatusError) as caught:
            client.post(server.url, json={})
        outcome = flexmw.outcome_of(caught.value)
        assert outcome is not None
        assert (outcome.outcome, server.executions) == ("ambiguous", 1)


@libraries
def test_a_lost_response_keeps_its_outcome_through_pickle(library: Any) -> None:
    with (
        HostileServer(["rst"]) as server,
        wrapped(library.Client(verify=False, trust_env=False)) as client,
        pytest.raises(library.TransportError) as caught,
    ):
        client.post(server.url, json={})
    outcome = flexmw.outcome_of(pickle.loads(pickle.dumps(caught.value)))
    assert outcome is not None
    assert outcome.outcome == "ambiguous"


@libraries
def test_an_auth_flow_that_reads_bodies_and_makes_requests_of_its_own_goes_on(library: Any) -> None:
    def respond(request: Any) -> Any:
        seen.append((request.headers.get("authorization"), request.content))
        if request.content == b"refresh":
            return library.Response(
                503 if len(seen) == 2 else 200, headers={"retry-after-ms": "1"}, json={"token": "2"}
            )
        return library.Response(200 if request.headers["authorization"] == "2" else 401, json={"error": "old"})

    class Refreshing(library.Auth):  # type: ignore[misc]
        requires_request_body = requires_response_body = True

        def auth_flow(self, request: Any) -> Any:
            request.headers["authorization"] = "1"
            response = yield request
            assert response.json()
            refreshed = yield library.Request("POST", "http://test/token", content=b"refresh")
            request.headers["authorization"] = refreshed.json()["token"]
            yield request

    seen: list[Any] = []
    with wrapped(library.Client(verify=False, transport=library.MockTransport(respond), auth=Refreshing())) as client:
        assert client.post("http://test/", content=b"body").status_code == 200
    assert seen == [("1", b"body"), (None, b"refresh"), (None, b"refresh"), ("2", b"body")]


@libraries
def test_every_response_of_a_redirected_post_has_an_outcome_of_its_own(library: Any) -> None:
    def respond(request: Any) -> Any:
        seen.append((request.url.path, request.content))
        if request.url.path == "/old":
            return library.Response(307, headers={"location": "/new"})
        return library.Response(429 if len(seen) == 2 else 200, headers={"retry-after-ms": "1"})

    seen: list[Any] = []
    client = library.Client(verify=False, transport=library.MockTransport(respond), follow_redirects=True)
    with wrapped(client):
        response = client.post("http://test/old", content=b"body")
    assert seen == [("/old", b"body"), ("/new", b"body"), ("/new", b"body")]
    assert [each.extensions["flexmw"].attempts for each in (*response.history, response)] == [1, 2]


@libraries
def test_a_post_over_a_mount_and_one_over_a_proxy_recover_and_are_executed_once(library: Any) -> None:
    with HostileServer() as server:
        options: list[dict[str, Any]] = [
            {"mounts": {"all://upstream.example": library.HTTPTransport(verify=False, proxy=server.url)}},
            {"proxy": server.url},
        ]
        for place, option in enumerate(options):
            server.follow(["503:ms=1", "ok", "rst"])
            executed = server.executions
            with wrapped(library.Client(verify=False, trust_env=False, **option)) as client:
                assert client.post("http://upstream.example/", json={}).status_code == 200, place
                with pytest.raises(library.TransportError) as caught:
                    client.post("http://upstream.example/", json={})
            assert flexmw.outcome_of(caught.value).outcome == "ambiguous"  # type: ignore[union-attr]
            assert server.executions - executed == 2


@libraries
def test_raw_bytes_of_a_stream_arrive_as_the_server_sent_them(library: Any) -> None:
    body = library.ByteStream(b"raw")

    def respond(request: Any) -> Any:
        return library.Response(200, stream=body)

    with (
        wrapped(library.Client(verify=False, transport=library.MockTransport(respond))) as client,
        client.stream("POST", "http://test/", content=b"x") as response,
    ):
        assert b"".join(response.iter_raw()) == b"raw"
        assert response.num_bytes_downloaded == 3
        with pytest.raises(library.StreamConsumed):
            list(response.iter_raw())


@libraries
def test_a_client_is_used_by_one_event_loop_after_the_other(library: Any) -> None:
    with HostileServer() as server:
        client = wrapped(library.AsyncClient(verify=False, trust_env=False, headers={"connection": "close"}))

        async def call() -> int:
            status: int = (await client.get(server.url)).status_code
            return status

        assert [asyncio.run(call()), asyncio.run(call())] == [200, 200]
