"""A body that breaks while it is read whole, and the option that fetches it again."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import httpx2
import pytest

import flexmw
from flexmw.testing import HostileServer

LIBRARIES = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
BREAKS = pytest.mark.parametrize("fault", ["cut-body", "cut-chunk", "rst-body"])


def client(library: Any, **options: Any) -> Any:
    policy = flexmw.Retry(random=lambda: 0.0, **options)
    return flexmw.wrap_client(library.Client(timeout=20.0, trust_env=False), policy)


@LIBRARIES
@BREAKS
def test_a_get_whose_body_breaks_has_an_outcome(library: Any, fault: str) -> None:
    with HostileServer(then=fault) as server, client(library) as http:
        with pytest.raises(library.TransportError) as caught:
            http.get(server.url)
        assert caught.value.flexmw == flexmw.Outcome("ambiguous", 1, reason="body_broken", row="ambiguous")
        assert len(server.requests) == 1


@LIBRARIES
@BREAKS
def test_reread_fetches_a_safe_body_again(library: Any, fault: str) -> None:
    with HostileServer([fault]) as server, client(library, reread=True) as http:
        response = http.get(f"{server.url}/thing")
        assert response.json()["path"] == "/thing"
        assert len(server.requests) == 2
        assert flexmw.outcome_of(response).attempts == 2  # type: ignore[union-attr]


@LIBRARIES
def test_reread_works_in_async_clients(library: Any) -> None:
    async def run() -> tuple[int, int]:
        plain = library.AsyncClient(timeout=20.0, trust_env=False)
        async with flexmw.wrap_client(plain, flexmw.Retry(random=lambda: 0.0, reread=True)) as http:
            return (await http.get(server.url)).status_code, len(server.requests)

    with HostileServer(["cut-body"]) as server:
        assert anyio.run(run) == (200, 2)


@LIBRARIES
def test_reread_ends_with_the_attempts_and_says_so(library: Any) -> None:
    with HostileServer(then="cut-body") as server, client(library, reread=True, attempts=2) as http:
        with pytest.raises(library.RemoteProtocolError) as caught:
            http.get(server.url)
        assert (caught.value.flexmw.attempts, caught.value.flexmw.reason) == (2, "attempts_exhausted")
        assert len(server.requests) == 2


@LIBRARIES
def test_reread_never_repeats_an_unkeyed_post(library: Any) -> None:
    with HostileServer(then="cut-body") as server, client(library, reread=True) as http:
        with pytest.raises(library.RemoteProtocolError) as caught:
            http.post(server.url, json={})
        assert server.executions == 1
        assert caught.value.flexmw.outcome == "ambiguous"


@LIBRARIES
def test_reread_repeats_a_post_under_a_key_that_the_server_honours(library: Any) -> None:
    with HostileServer(["cut-body"], dedup=True) as server:
        with client(library, reread=True, key_origins=(server.url,)) as http:
            response = http.post(server.url, json={}, headers={"Idempotency-Key": "k"})
        assert (response.status_code, len(server.requests), server.executions) == (200, 2, 1)


@LIBRARIES
def test_a_body_that_the_caller_streams_is_not_fetched_again(library: Any) -> None:
    with HostileServer(then="cut-body") as server, client(library, reread=True) as http:
        with http.stream("GET", server.url) as response, pytest.raises(library.RemoteProtocolError) as caught:
            response.read()
        assert len(server.requests) == 1
        assert caught.value.flexmw.reason == "body_broken"
