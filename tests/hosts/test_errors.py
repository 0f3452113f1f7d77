"""The same errors on every host leave in the same shape, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import httpx
import openai
import pytest

import flexmw
from flexmw.contract import OWN, ErrorBody
from tests.hosts.apps import HOSTS, SECRET
from tests.servers import Served, uvicorn_server
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@dataclass(frozen=True)
class Case:
    what: str
    method: str
    path: str
    status: int
    code: str
    header: tuple[str, str] | None = None
    send: bytes | None = None
    message: str | None = None


CASES = [
    Case("unknown route", "GET", "/nowhere", 404, "unknown_url", message=OWN["unknown_url"].message),
    Case("an item that a route does not have", "GET", "/missing", 404, "not_found", message="Not found."),
    Case("wrong method", "DELETE", "/ok", 405, "method_not_allowed", ("allow", "GET"), message="Method not allowed."),
    Case("malformed JSON", "POST", "/validate", 400, "invalid_json", None, b"{", OWN["invalid_json"].message),
    Case("failed validation", "POST", "/validate", 400, "validation_error", None, b'{"n": "x"}'),
    Case("HTTP error with headers", "GET", "/limited", 429, "rate_limit_exceeded", ("retry-after", "7")),
    Case("unhandled exception", "GET", "/crash", 500, "internal_error"),
    Case("a raised kind", "GET", "/kind", 400, "model_not_found", ("x-kind", "1")),
    Case("a raised kind that is a 500", "GET", "/kind-500", 500, "upstream_timeout"),
    Case("a kind raised in a thread", "GET", "/thread", 402, "402"),
]

OTHERWISE = {
    ("blacksheep", "wrong method"): (404, "not_found", None),
    ("blacksheep", "failed validation"): (400, "invalid_request", None),
    ("django", "malformed JSON"): (500, "internal_error", None),
    ("quart", "malformed JSON"): (400, "invalid_request", None),
    ("quart", "failed validation"): (400, "invalid_request", None),
}
"""What a framework itself makes of a case: BlackSheep has no 405, Django leaves reading JSON to the view, Quart's 400
does not say that it is about JSON, and on BlackSheep and Quart the app of the test writes a text of its own."""


@pytest.fixture(scope="module")
def served() -> Iterator[dict[str, Served]]:
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(uvicorn_server(flexmw.Envelope(max_wait=0.5).asgi(make())))
            for name, make in HOSTS.items()
        }


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_the_error_keeps_the_contract(host: str, case: Case, served: dict[str, Served]) -> None:
    status, code, header = OTHERWISE.get((host, case.what), (case.status, case.code, case.header))
    answer = httpx.request(
        case.method,
        served[host].url + case.path,
        content=case.send,
        headers={"content-type": "application/json"},
        timeout=LONGEST_WAIT,
    )
    assert answer.status_code == status
    error = ErrorBody.decode(answer.content)
    assert error is not None
    assert error.code == code
    if case.message is not None and (host, case.what) not in OTHERWISE:
        assert error.message == case.message
    assert SECRET not in answer.text
    assert answer.headers["x-request-id"]
    if header is not None:
        assert header[1] in answer.headers[header[0]]


@pytest.mark.parametrize("host", HOSTS)
def test_the_openai_sdk_reads_a_raised_kind(host: str, served: dict[str, Served]) -> None:
    with (
        openai.OpenAI(api_key="k", base_url=served[host].url, max_retries=0) as client,
        pytest.raises(openai.BadRequestError) as caught,
    ):
        client.get("/kind", cast_to=object)
    assert (caught.value.code, caught.value.param, caught.value.type) == (
        "model_not_found",
        "model",
        "invalid_request_error",
    )
