"""``flexmw check`` against real servers: ones that keep the contract, and ones that do not."""

from __future__ import annotations

import io
import json
import re
import socket
import time
import xml.etree.ElementTree as Xml
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware
from pydantic import BaseModel

import flexmw
from examples.gateway.serve import Backend, Running, backend, gateway
from flexmw.cli import main
from flexmw.conformance.check import Check, Settings
from flexmw.conformance.probes import PROBES
from flexmw.conformance.probes.errors import WRONG_KEY
from flexmw.testing import FakeClock, HostileServer
from tests.conformance.test_http import canned
from tests.servers import Serve
from tests.waiting import LONGEST_WAIT

HARMLESS = [probe for probe in PROBES if probe.cost == "harmless"]


class Order(BaseModel):
    item: int


class Chat(BaseModel):
    model: str
    messages: list[dict[str, str]]


def authorised(request: Request) -> None:
    if request.headers.get("authorization") != "Bearer sk-real":
        raise flexmw.InvalidAPIKey


def provider() -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.api_route("/v1/models", methods=["GET", "HEAD"], dependencies=[Depends(authorised)])
    def models() -> dict[str, list[str]]:
        return {"data": []}

    @app.post("/v1/chat/completions", dependencies=[Depends(authorised)])
    def chat(body: Chat) -> None:
        raise flexmw.ModelNotFound(body.model)

    return app


def bare() -> FastAPI:
    """FastAPI as one writes it: no middleware, and a model by name."""
    app = FastAPI()

    @app.get("/v1/models")
    def models() -> dict[str, list[str]]:
        return {"data": []}

    @app.post("/v1/chat/completions")
    def chat(body: Chat) -> dict[str, list[str]]:
        if body.model != "m":
            raise HTTPException(400, f"no model {body.model}")
        return {"choices": []}

    return app


def guarded(app: FastAPI) -> Any:
    return flexmw.wrap_app(app, flexmw.Envelope(validation_status=400))


def faults(check: Check) -> dict[str, tuple[str, ...]]:
    return {row.probe.id: row.notes for row in check.rows() if row.state == "failed"}


def test_an_endpoint_that_keeps_the_contract_has_no_faults(serve: Serve) -> None:
    check = Check(Settings(url=serve(guarded(provider())).url, key="sk-real", timeout=LONGEST_WAIT))
    rows = list(check.rows())
    assert [(row.probe.id, row.notes) for row in rows if row.state == "failed"] == []
    skipped = {row.probe.group for row in rows if row.state == "skipped"}
    assert skipped == {"bodies", "cors", "idempotency", "resumable", "limits"}


def test_bare_fastapi_gets_a_list_of_exactly_what_is_wrong(serve: Serve) -> None:
    no_object = "the body is not the error object of the contract: "
    detail = f'{no_object}"{{"detail":'
    expected = {
        "errors/unknown-route": [f'{detail}"Not Found"}}"'],
        "errors/malformed-json": [f'{detail}[{{"type":"json_invalid","loc":["body",10],"msg"..."'],
        "errors/no-object": [f'{detail}[{{"type":"model_attributes_type","loc":["body"]..."'],
        "errors/no-utf8": [f'{detail}"There was an error parsing the body"}}"'],
        "errors/no-json": [f'{detail}[{{"type":"model_attributes_type","loc":["body"]..."'],
        "errors/empty-body": [f'{detail}[{{"type":"missing","loc":["body"],"msg":"Field ..."'],
        "errors/missing-field": [f'{detail}[{{"type":"missing","loc":["body","messages"],"m..."'],
        "errors/unknown-model": [f'{detail}"no model flexmw-check-no-such-model"}}"'],
        "errors/no-key": [f'{detail}"no model flexmw-check-no-such-model"}}"'],
        "errors/wrong-key": [f'{detail}"no model flexmw-check-no-such-model"}}"'],
        "ids/on-errors": ["the 404 has no x-request-id", "the 422 has no x-request-id"],
        "ids/differ": ["the 404 has no x-request-id"],
        "methods/wrong-method": [f'{detail}"Method Not Allowed"}}"'],
        "methods/head-like-get": ["HEAD has status 405, GET has 200"],
        "methods/options": [f'{detail}"Method Not Allowed"}}"'],
        "bodies/mebibyte": [f'{detail}[{{"type":"json_invalid","loc":["body",10],"msg"..."'],
        "bodies/deep": [f'{detail}"There was an error parsing the body"}}"'],
        "bodies/chunked": [f'{detail}[{{"type":"json_invalid","loc":["body",10],"msg"..."'],
        "bodies/long-query": [f'{detail}"Not Found"}}"'],
        "streams/error-before": [f'{detail}"no model flexmw-check-no-such-model"}}"'],
    }
    check = Check(Settings(url=serve(bare()).url, timeout=LONGEST_WAIT))
    assert {name: list(notes) for name, notes in faults(check).items()} == expected


@pytest.fixture(scope="module")
def a_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Backend, Running]]:
    file = tmp_path_factory.mktemp("check") / "gateway.db"
    with backend() as models, gateway(models.url, storage=f"sqlite:///{file}") as running:
        yield models, running


def test_the_gateway_gets_a_clean_bill_three_times_in_a_row(a_gateway: tuple[Backend, Running]) -> None:
    models, running = a_gateway
    key, _ = running.admin.create_key(tier="paid")
    settings = Settings(url=f"{running.url}/v1", key=key, timeout=LONGEST_WAIT)
    models.forget()
    runs = [[(row.probe.id, row.state, row.notes) for row in Check(settings).rows()] for _ in range(3)]
    assert models.work() == {}, "no harmless probe makes a model work"
    assert runs[0] == runs[1] == runs[2]
    assert [row for row in runs[0] if row[1] == "failed"] == []
    skipped = {name for name, state, _ in runs[0] if state == "skipped"}
    assert {name for name in skipped if not name.startswith("cors/")} == {"bodies/declared"}


def test_the_gateway_keeps_what_paid_calls_promise(a_gateway: tuple[Backend, Running]) -> None:
    models, running = a_gateway
    key, _ = running.admin.create_key(tier="paid")
    groups = ("streams", "idempotency", "resumable")
    settings = Settings(url=running.url, key=key, groups=groups, paid=True, model="alice-3gram", timeout=LONGEST_WAIT)
    models.forget()
    rows = list(Check(settings).rows())
    assert [(row.probe.id, row.notes) for row in rows if row.state != "passed"] == []
    assert models.work() == {"/v1/chat/completions": 4}, "two calls with one key are executed once, a rest never"


def test_a_burst_meets_the_limiter_and_obeys_it(serve: Serve) -> None:
    clock = FakeClock(now=time.time())
    limit = flexmw.RateLimit("5/minute", key="address", clock=clock)
    settings = Settings(
        url=serve(flexmw.wrap_app(FastAPI(), flexmw.Envelope(), limit)).url,
        groups=("limits",),
        burst=True,
        timeout=LONGEST_WAIT,
    )
    check = Check(settings, sleep=clock.advance)
    assert [(row.probe.id, row.state, row.notes) for row in check.rows() if row.probe.id != "limits/refused"] == [
        ("limits/headers", "passed", ()),
        ("limits/obeyed", "passed", ()),
    ]
    assert 8 <= check.runner.requests <= 20


def test_what_needs_a_key_is_skipped_without_one(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    url = serve(guarded(provider())).url
    assert main(["check", f"{url}/v1", "--json", "--timeout", "60"]) == 0
    output = capsys.readouterr()
    report = json.loads(output.out)
    assert output.err == f"judging {url}/v1, route POST /chat/completions\n"
    assert report["broken"] is False
    assert report["counts"]["failed"] == 0
    states = {row["name"]: row["state"] for row in report["rows"]}
    assert states["errors/no-key"] == states["errors/unknown-route"] == "passed"
    assert states["errors/unknown-model"] == "skipped"
    assert "limits/refused" in report["not_sent"]


def test_nothing_judged_is_no_success(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", serve(FastAPI()).url, "--group", "idempotency", "--timeout", "60"]) == 2
    output = capsys.readouterr()
    assert output.err == "flexmw: nothing was judged: 1 of 1 probes were skipped\n"
    assert "is not there (404): name a route that reads JSON by --route" in " ".join(output.out.split())


@pytest.mark.parametrize("columns", [60, 100])
def test_the_text_fits_the_terminal_and_ends_in_a_summary(
    columns: int, serve: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    url = serve(bare()).url
    assert main(["check", f"{url}?tenant=a", "--timeout", "60"]) == 1
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert lines[0] == f"judging {url}/v1?tenant=***, route POST /chat/completions"
    assert max(map(len, lines[1:])) <= columns
    assert f"1 passed, 20 failed, {len(HARMLESS) - 21} skipped; 25 requests" in lines
    assert "b'" not in output.out
    assert output.err == "", "no progress line where stderr is no terminal"


def test_a_terminal_sees_what_is_done_now(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    assert main(["check", serve(FastAPI()).url, "--group", "ids", "--timeout", "60"]) == 1
    assert "\r\x1b[K1/2 ids/on-errors\r\x1b[K2/2 ids/differ" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_the_reports_hold_every_probe(serve: Serve, tmp_path: Path) -> None:
    junit, sarif = tmp_path / "junit.xml", tmp_path / "check.sarif"
    url = serve(bare()).url
    assert main(["check", url, "--junit", str(junit), "--sarif", str(sarif), "--timeout", "60"]) == 1
    suites = Xml.parse(junit).getroot()
    assert suites.attrib["tests"] == str(len(HARMLESS))
    assert suites.attrib["failures"] == str(len(suites.findall(".//failure"))) == "20"
    assert suites.attrib["skipped"] == str(len(suites.findall(".//skipped")))
    failure = suites.find(".//testcase[@name='head-like-get']/failure")
    assert failure is not None
    assert failure.attrib["message"] == "HEAD has status 405, GET has 200"
    (run,) = json.loads(sarif.read_text())["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [result["ruleId"] for result in run["results"]]
    assert len([result for result in run["results"] if result["level"] == "error"]) == 20
    location = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert location == {"uri": f"{url}/v1"}


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "http://127.0.0.1:1", "--junit", str(tmp_path / "no" / "folder.xml")]) == 2
    assert "a file that can be written (No such file or directory)" in capsys.readouterr().err


def test_the_probes_are_listed_without_a_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--list"]) == 0
    assert capsys.readouterr().out.count("(harmless)") == len(HARMLESS)
    assert main(["check", "--list", "--json", "--group", "limits"]) == 0
    assert [probe["name"] for probe in json.loads(capsys.readouterr().out)] == [
        "limits/headers",
        "limits/refused",
        "limits/obeyed",
    ]


def test_the_key_reaches_only_the_requests_that_want_it(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            seen.append((headers.get(b"authorization", b"").decode(), scope["query_string"].decode()))
            location = [(b"location", b"/elsewhere"), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 307, "headers": location})
            await send({"type": "http.response.body"})

    monkeypatch.setenv("CHECK_KEY", "sk-real")
    url = serve(app, lifespan="off").url
    assert main(["check", f"{url}/?tenant=a", "--key-env", "CHECK_KEY", "--timeout", "60"]) == 1
    keys = [key for key, _ in seen]
    assert (keys.count(""), keys.count(f"Bearer {WRONG_KEY}")) == (2, 1), "no-key and the preflight; wrong-key"
    assert set(keys) == {"", f"Bearer {WRONG_KEY}", "Bearer sk-real"}
    assert all(query.startswith("tenant=a") for _, query in seen)


def test_what_an_api_repeats_of_the_key_is_not_shown(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            body = dict(scope["headers"]).get(b"authorization", b"")
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": body})

    monkeypatch.setenv("CHECK_KEY", "wo0dpecker")
    assert main(["check", serve(app, lifespan="off").url, "--key-env", "CHECK_KEY", "--json"]) == 1
    output = capsys.readouterr()
    assert "wo0dpecker" not in output.out + output.err


def test_pages_of_an_admitted_origin_can_read_what_they_need(serve: Serve) -> None:
    app = provider()
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["https://app.example"],
        allow_methods=["POST"],
        allow_headers=["authorization", "content-type"],
    )
    settings = Settings(
        url=serve(guarded(app)).url,
        key="sk-real",
        groups=("cors",),
        origin="https://app.example",
        timeout=LONGEST_WAIT,
    )
    assert faults(Check(settings)) == {
        "cors/exposed": ("a page cannot read x-request-id: Access-Control-Expose-Headers does not name them",)
    }


def test_any_json_api_can_be_judged(serve: Serve) -> None:
    app = FastAPI()

    count = iter(range(1, 100))

    @app.post("/api/orders")
    async def order(order: Order) -> dict[str, int]:
        return {"order": next(count)}

    served = flexmw.wrap_app(app, flexmw.Envelope(), flexmw.Idempotency())
    settings = Settings(
        url=f"{serve(served).url}/api?a=b", route="POST /orders", paid=True, body='{"item": 1}', timeout=LONGEST_WAIT
    )
    rows = list(Check(settings).rows())
    assert [(row.probe.id, row.notes) for row in rows if row.state == "failed"] == []
    passed = {row.probe.id for row in rows if row.state == "passed"}
    assert {"errors/malformed-json", "idempotency/executed-once", "idempotency/reused", "bodies/chunked"} <= passed


def test_a_body_after_the_head_of_a_response_to_head_is_seen() -> None:
    body = b'{"error":{"message":"No.","type":"invalid_request_error","code":null}}'
    head = b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    with canned(head + body) as port:
        check = Check(Settings(url=port.url, groups=("methods",), timeout=LONGEST_WAIT))
        notes = faults(check)["methods/head-of-nothing"]
    assert notes == ("the response to HEAD has a body of 70 bytes",)


def test_a_server_that_breaks_off_is_broken_and_not_the_end() -> None:
    with HostileServer(["404", "garbage"], then="rst") as server:
        rows = list(Check(Settings(url=server.url, timeout=LONGEST_WAIT)).rows())
    assert {row.state for row in rows[1:]} <= {"failed", "skipped"}
    assert rows[1].notes[0].startswith("no response: ")


def test_nobody_there_is_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert main(["check", f"http://127.0.0.1:{taken.getsockname()[1]}"]) == 2
    assert "expected a server that responds" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["http://x", "--key-env", "NOT_SET_ANYWHERE"],
        ["http://x", "--timeout", "0"],
        ["http://x", "--group", "nothing"],
        ["http://x", "--list"],
    ],
)
def test_what_cannot_be_asked_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *arguments]) == 2
    assert capsys.readouterr().err.startswith("flexmw: ")


def test_an_interrupted_run_shows_what_it_has(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(settings: Settings, **callbacks: Any) -> Check:
        count = iter(range(10))

        def sleepless(line: str) -> None:
            if next(count) == 2:
                raise KeyboardInterrupt

        return Check(settings, progress=sleepless)

    monkeypatch.setattr("flexmw.cli.check.Check", interrupted)
    assert main(["check", serve(FastAPI()).url, "--timeout", "60"]) == 2
    output = capsys.readouterr()
    assert output.err == f"flexmw: interrupted after 2 of {len(HARMLESS)} probes\n"
    assert "2 skipped; 3 requests" in output.out


def test_a_log_says_how_long_the_check_waits(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = FakeClock(now=time.time())
    limit = flexmw.RateLimit("1/minute", key="address", clock=clock)
    monkeypatch.setattr("flexmw.cli.check.Check", partial(Check, sleep=clock.advance))
    url = serve(flexmw.wrap_app(FastAPI(), flexmw.Envelope(), limit)).url
    assert main(["check", url, "--group", "ids", "--timeout", "60"]) == 0
    output = capsys.readouterr()
    first, *others = output.err.splitlines()
    assert re.fullmatch(r"rate limited: waiting \d+ s", first)
    assert all(line.startswith("rate limited: waiting") for line in others)
    assert re.search(r"requests, \d+ s of waiting for the rate limiter", output.out)
