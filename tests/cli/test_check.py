"""``flexmw check`` against real servers: one that keeps the contract, and ones that do not."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel

import flexmw
from examples.gateway.serve import backend, gateway
from flexmw.cli import main
from flexmw.cli.check import PROBES, examine
from flexmw.cli.judge import Expected, judge, quota_faults
from tests.servers import Serve
from tests.waiting import LONGEST_WAIT


class Chat(BaseModel):
    model: str
    messages: list[dict[str, str]]


def authorised(request: Request) -> None:
    if request.headers.get("authorization") != "Bearer sk-real":
        raise flexmw.InvalidAPIKey


def provider() -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.get("/v1/models", dependencies=[Depends(authorised)])
    def models() -> dict[str, list[str]]:
        return {"data": []}

    @app.post("/v1/chat/completions", dependencies=[Depends(authorised)])
    def chat(body: Chat) -> None:
        raise flexmw.ModelNotFound(body.model)

    return app


def guarded(app: FastAPI) -> Any:
    return flexmw.wrap_app(app, flexmw.Envelope(validation_status=400))


def test_an_endpoint_that_keeps_the_contract_passes(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECK_KEY", "sk-real")
    rows = list(examine(serve(guarded(provider())).url, key="sk-real"))
    assert [row.faults for row in rows] == [[]] * len(PROBES)
    assert {row.state for row in rows} == {"ok"}


def test_what_needs_a_key_is_skipped_without_one(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", serve(guarded(provider())).url + "/v1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["broken"] is False
    states = {row["name"]: row["state"] for row in report["rows"]}
    assert states["no key"] == states["unknown route"] == "ok"
    assert states["unknown model"] == "skipped"


def test_a_bare_framework_is_broken_row_by_row(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", serve(FastAPI()).url]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(PROBES)
    row = next(line for line in lines if "unknown route " in line)
    assert row.startswith("broken")
    assert "the body is not the envelope" in row


def test_the_key_reaches_only_the_requests_that_want_it(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            seen.append(dict(scope["headers"]).get(b"authorization", b"").decode())
            headers = [(b"location", b"/elsewhere"), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 307, "headers": headers})
            await send({"type": "http.response.body"})

    monkeypatch.setenv("CHECK_KEY", "sk-real")
    assert main(["check", serve(app, lifespan="off").url, "--key-env", "CHECK_KEY"]) == 1
    assert len(seen) == len(PROBES), "each probe is sent once, and redirects are not followed"
    assert seen[0] == ""
    assert seen[1] == "Bearer sk-flexmw-check-not-a-key"
    assert set(seen[2:]) == {"Bearer sk-real"}


def test_a_server_that_breaks_off_is_broken_and_not_the_end() -> None:
    from flexmw.testing import HostileServer

    with HostileServer(["404", "garbage"], then="rst") as server:
        rows = list(examine(server.url, timeout=LONGEST_WAIT))
    assert [row.state for row in rows[1:]] == ["broken"] * (len(PROBES) - 1)
    assert rows[1].faults[0].startswith("no response: ")


def test_nobody_there_is_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert main(["check", f"http://127.0.0.1:{taken.getsockname()[1]}"]) == 2
    assert "expected a server that responds" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["ftp://x"],
        ["nonsense"],
        ["http://[::1"],
        ["http://:80"],
        ["http://x:99999"],
        ["http://x", "--key-env", "NOT_SET_ANYWHERE"],
        ["http://x", "--timeout", "0"],
        ["http://x", "--timeout", "-1"],
        ["http://x", "--timeout", "nan"],
        ["http://x", "--timeout", "1e300"],
    ],
)
def test_what_cannot_be_asked_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *arguments]) == 2
    assert capsys.readouterr().err.startswith("flexmw: ")


JSON = {"content-type": "application/json"}
BODY = b'{"error":{"message":"No.","type":"rate_limit_error","code":"rate_limit_exceeded"}}'
LIMITED = {
    **JSON,
    "retry-after": "3",
    "x-ratelimit-limit-requests": "10",
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": "1800000003",
}


def test_a_refusal_by_the_limiter_is_a_response_to_any_probe() -> None:
    assert judge(429, LIMITED, BODY, Expected((404,), "invalid_request_error"), now=1_800_000_000.0) == []


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"retry-after": None}, "a 429 without retry-after"),
        ({"x-ratelimit-limit-requests": None}, "without x-ratelimit-limit-requests"),
        ({"retry-after": "soon"}, "Retry-After is 'soon'"),
        ({"x-ratelimit-reset-requests": "soon"}, "x-ratelimit-reset-requests is 'soon'"),
        ({"retry-after": "30"}, "Retry-After asks for 30 s, x-ratelimit-reset-requests for 3 s"),
    ],
)
def test_the_headers_of_a_429_must_agree(headers: dict[str, str | None], words: str) -> None:
    merged = {name: value for name, value in {**LIMITED, **headers}.items() if value is not None}
    assert words in quota_faults(merged, now=1_800_000_000.0)[0]


@pytest.mark.parametrize(
    ("status", "headers", "body", "words"),
    [
        (200, JSON, BODY, "status is 200, not 404"),
        (404, {"content-type": "text/html; charset=utf-8"}, BODY, "content-type is 'text/html'"),
        (404, {}, BODY, "content-type is 'missing'"),
        (404, JSON, b"[]", "the body is not the envelope"),
        (404, JSON, BODY, "error.type is 'rate_limit_error', not 'invalid_request_error'"),
    ],
)
def test_a_wrong_response_is_named(status: int, headers: dict[str, str], body: bytes, words: str) -> None:
    faults = judge(status, headers, body, Expected((404,), "invalid_request_error"))
    assert any(words in fault for fault in faults), faults


def test_a_response_to_head_has_no_body() -> None:
    assert judge(404, JSON, b"", Expected((404,)), head=True) == []


def test_the_example_gateway_passes_every_row(tmp_path: Path) -> None:
    with backend() as models, gateway(models.url, storage=f"sqlite:///{tmp_path / 'gateway.db'}") as running:
        key, _ = running.admin.create_key(tier="paid")
        rows = list(examine(f"{running.url}/v1", key=key))
        assert models.work() == {}, "no probe makes a model work"
    assert [(row.name, row.faults) for row in rows if row.state != "ok"] == []


def test_what_was_only_rate_limited_was_not_judged(serve: Serve) -> None:
    app = flexmw.wrap_app(FastAPI(), flexmw.Envelope(), flexmw.RateLimit("3/minute", key="address"))
    states = [row.state for row in examine(serve(app).url)]
    assert states[3:] == ["skipped"] * (len(PROBES) - 3)
