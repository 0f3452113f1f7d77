"""The built-in components pass the kit that plugins are held against: they hold no privilege."""

from __future__ import annotations

from typing import Any

import httpx
import httpx2
import pytest
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

import flexmw
from flexmw.adopted import adopt
from flexmw.registry import BUILT_IN, component
from flexmw.testing import check_app, check_flow

SERVERS = {
    "tagging": flexmw.Tagging(),
    "envelope": flexmw.Envelope(),
    "ratelimit": flexmw.RateLimit("1000/minute"),
    "idempotency": flexmw.Idempotency(),
    "idempotency for SDKs": flexmw.Idempotency(sdk_retries=True),
}
CLIENTS = {
    "envelope": flexmw.Envelope(),
    "tagging": flexmw.Tagging(),
    "retry": flexmw.Retry(),
    "pace": flexmw.Pace(),
}


@pytest.mark.parametrize("each", SERVERS.values(), ids=SERVERS)
def test_a_server_component_behaves(each: Any) -> None:
    check_app(each)


@pytest.mark.parametrize("each", CLIENTS.values(), ids=CLIENTS)
def test_a_client_component_behaves(each: Any) -> None:
    check_flow(each)


@pytest.mark.parametrize("name", ["tagging", "envelope"])
def test_components_without_a_store_behave_under_trio_too(name: str) -> None:
    check_app(component(name), backend="trio")


def test_all_built_in_components_were_checked() -> None:
    assert {each.name for each in (*SERVERS.values(), *CLIENTS.values())} == set(BUILT_IN)


@pytest.mark.parametrize("middleware", [adopt(CORSMiddleware, allow_origins=["*"]), adopt(GZipMiddleware)])
def test_the_kit_lets_well_known_middleware_pass(middleware: Any) -> None:
    check_app(middleware)


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_whole_client_stack_is_one_component_to_its_caller(library: Any) -> None:
    client = flexmw.wrap_client(library.Client(), "tagging", "pace", "retry")
    with client:
        assert isinstance(client, library.Client)
