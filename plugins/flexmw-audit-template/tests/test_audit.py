from __future__ import annotations

from typing import Any

import httpx
import pytest
from acme_audit import Audit

import flexmw
from flexmw.testing import HostileServer, check_app, check_flow


def test_it_behaves_around_an_app() -> None:
    check_app(Audit())


def test_it_behaves_inside_a_client() -> None:
    check_flow(Audit())


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.mark.anyio
async def test_responses_carry_the_mark() -> None:
    app: Any = flexmw.wrap_app(hello, Audit(header="X-Acme"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        response = await client.get("/")
    assert response.headers["x-acme"] == "1"


def test_requests_carry_the_mark(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "acme_audit")
    with HostileServer("200") as server, flexmw.wrap_client(httpx.Client(), Audit()) as client:
        client.get(f"{server.url}/orders")
    assert server.requests[0].header("x-audit") == "1"
    assert caplog.messages == ["GET /orders: 200"]


@pytest.mark.parametrize("header", ["", "two words", "x:y", None])
def test_a_header_that_is_none_is_refused(header: Any) -> None:
    with pytest.raises(flexmw.ConfigError, match="the name of an HTTP header"):
        Audit(header=header)
