"""Every failure mode, on real sockets: the answer is the contract's, and the openai SDK reads it."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import httpx2
import openai
import pytest

from flexmw.contract import ErrorBody
from tests.envelope.apps import SECRET
from tests.envelope.modes import MODES, Mode
from tests.servers import Served
from tests.waiting import LONGEST_WAIT

TLS = ssl.create_default_context()  # made once: reading all certificates takes longer than a call
HEX = re.compile(r"[0-9a-f]{32}")


CASES = [(host, mode) for mode in MODES for host in ("fastapi", "starlette") if mode.only in (None, host)]
READ = [(host, mode) for host, mode in CASES if mode.sdk]


def name_of(value: object) -> str:
    return value.id if isinstance(value, Mode) else str(value)


def sdk_at(url: str) -> openai.OpenAI:
    """It uses no connection twice: uvicorn ends one whose app has raised after its answer, at some moment."""
    once = httpx2.Client(timeout=LONGEST_WAIT, limits=httpx2.Limits(max_keepalive_connections=0))
    return openai.OpenAI(api_key="k", base_url=url, max_retries=0, timeout=10, http_client=once)


@pytest.fixture(scope="module")
def sdks(hosts: dict[str, Served]) -> Iterator[dict[str, openai.OpenAI]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(sdk_at(served.url)) for name, served in hosts.items()}


@pytest.mark.parametrize(("host", "mode"), CASES, ids=name_of)
def test_the_response_keeps_the_contract(host: str, mode: Mode, hosts: dict[str, Served]) -> None:
    with httpx.Client(base_url=hosts[host].url, timeout=10, verify=TLS) as client:
        answer = client.request(mode.method, mode.path, content=mode.send, headers=dict(mode.headers))
    assert answer.status_code == mode.status
    assert SECRET not in answer.text
    for header, value in mode.back.items():
        assert header in answer.headers
        assert value in ("*", answer.headers[header])
    assert not [header for header in mode.gone if header in answer.headers]
    if mode.status < 400:
        assert answer.content == mode.raw
        assert "x-request-id" not in answer.headers
        return
    assert HEX.fullmatch(answer.headers["x-request-id"])
    if mode.method != "HEAD":
        assert answer.headers.get("content-length", "chunked") in ("chunked", str(len(answer.content)))
    if mode.raw is not None:
        assert answer.content == mode.raw
        return
    assert answer.headers["content-type"] == "application/json"
    error = ErrorBody.decode(answer.content)
    assert error is not None
    assert len(answer.content) < 4096
    assert mode.code in (None, error.code)
    assert mode.type in (None, error.type)
    assert error.param == mode.param or mode.param is None
    if mode.says is not None:
        assert mode.says in error.message
    assert error.code is not None


@pytest.mark.parametrize(("host", "mode"), READ, ids=name_of)
def test_the_openai_sdk_raises_its_class_with_code_and_request_id(
    host: str, mode: Mode, sdks: dict[str, openai.OpenAI]
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        call(sdks[host], mode)
    error = caught.value
    assert type(error).__name__ == mode.sdk
    assert error.status_code == mode.status
    if mode.status >= 400:
        assert error.request_id is not None
        assert error.type is not None
        assert error.code == mode.code or mode.code is None
        assert error.message != f"Error code: {mode.status}"


def call(client: openai.OpenAI, mode: Mode) -> None:
    """Ask for a failure through the SDK."""
    headers: dict[str, Any] = {**mode.headers, **({"authorization": openai.Omit()} if mode.path == "/bearer" else {})}
    match mode.method:
        case "GET":
            client.get(mode.path, cast_to=object, options={"headers": headers})
        case "POST":
            client.post(mode.path, cast_to=object, content=mode.send, options={"headers": headers})
        case "DELETE":
            client.delete(mode.path, cast_to=object, options={"headers": headers})
        case _:
            raise AssertionError(mode.method)
