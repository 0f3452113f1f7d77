from __future__ import annotations

from collections.abc import Generator
from typing import Any

import httpx
import pytest

from flexmw.testing import HostileServer
from tests.testing.clients import outcome, plain_client

KEY = {"Idempotency-Key": "8e03"}


@pytest.fixture
def client() -> Generator[httpx.Client]:
    with plain_client() as client:
        yield client


def test_a_key_is_no_licence_where_it_is_ignored(client: httpx.Client) -> None:
    with HostileServer("rst") as server:
        assert [outcome(lambda: client.post(server.url, headers=KEY)) for _ in range(3)] == ["ReadError"] * 3
        assert server.executions == 3


def test_a_known_key_gets_its_response_without_working_again_and_without_the_script(client: httpx.Client) -> None:
    with HostileServer(["rst", "500"], dedup=True) as server:
        assert outcome(lambda: client.post(server.url, json={"a": 1}, headers=KEY)) == "ReadError"
        again = client.post(server.url, json={"a": 1}, headers=KEY)
        assert (again.status_code, again.json()["execution"], again.headers["idempotent-replayed"]) == (200, 1, "true")
        assert outcome(lambda: client.post(server.url, json={"a": 1})) == 500  # the script's turn: no key
        assert server.executions == 2


@pytest.mark.parametrize("first", ["429", "503:seconds", "rst-unread", "rst-reading"])
def test_a_key_that_was_not_worked_on_is_not_known(first: str, client: httpx.Client) -> None:
    with HostileServer([first], dedup=True) as server:
        outcome(lambda: client.post(server.url, content=b"xx", headers=KEY))
        again = client.post(server.url, content=b"xx", headers=KEY)
        assert (again.status_code, "idempotent-replayed" in again.headers, server.executions) == (200, False, 1)


def test_a_key_on_another_request_is_refused(client: httpx.Client) -> None:
    with HostileServer(dedup=True) as server:
        assert client.post(server.url, json={"a": 1}, headers=KEY).status_code == 200
        for url, body in ((server.url, {"a": 2}), (f"{server.url}/other", {"a": 1})):
            reused = client.post(url, json=body, headers=KEY)
            assert (reused.status_code, reused.json()["error"]["code"]) == (422, "idempotency_key_reused")
        assert server.executions == 1


def test_a_key_belongs_to_the_caller(client: httpx.Client) -> None:
    with HostileServer(dedup=True) as server:
        for caller in ("Bearer a", "Bearer b"):
            assert client.post(server.url, headers={**KEY, "Authorization": caller}).status_code == 200
        assert server.executions == 2


@pytest.mark.parametrize("script", ["ok", "503", "429", "proxy-407"])
def test_keys_are_advertised_only_by_option(script: Any, client: httpx.Client) -> None:
    with HostileServer(script, dedup=True) as silent, HostileServer(script, key_ttl=86400) as telling:
        assert "idempotency-key-ttl" not in client.get(silent.url).headers
        assert client.get(telling.url).headers["idempotency-key-ttl"] == "86400"
