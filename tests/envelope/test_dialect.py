"""Other dialects: chosen by path or by Accept, read by their own SDK, found by name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import anthropic
import httpx
import pytest

import flexmw
from flexmw.contract import ErrorBody
from flexmw.envelope import Dialect, OpenAI
from flexmw.envelope import dialect as module
from flexmw.envelope.dialect import load
from tests.servers import Serve
from tests.waiting import LONGEST_WAIT
from tests.wire import call, scripted

pytestmark = pytest.mark.anyio
SSE = (b"content-type", b"text/event-stream")


@dataclass(frozen=True)
class Messages:
    """Anthropic's: what a plugin's author would write."""

    media_type = "application/json"

    def serves(self, path: str, accept: str) -> bool:
        return path.startswith("/v1/messages")

    def keeps(self, value: object) -> bool:
        return isinstance(value, dict) and value.get("type") == "error" and isinstance(value.get("error"), dict)

    def render(self, error: ErrorBody, *, status: int, request_id: str | None) -> bytes:
        inner = {"type": error.type, "message": error.message}
        return json.dumps({"type": "error", "error": inner, "request_id": request_id}).encode()

    def event(self, error: ErrorBody, *, status: int, path: str, last: bytes) -> bytes:
        return b"event: error\ndata: " + self.render(error, status=status, request_id=None) + b"\n\n"

    def finished(self, last: bytes) -> bool:
        return b"event: message_stop" in last


@dataclass(frozen=True)
class Problem:
    """RFC 9457, for clients that ask for it."""

    media_type = "application/problem+json"

    def serves(self, path: str, accept: str) -> bool:
        return "application/problem+json" in accept

    def keeps(self, value: object) -> bool:
        return isinstance(value, dict) and {"title", "status"} <= value.keys()

    def render(self, error: ErrorBody, *, status: int, request_id: str | None) -> bytes:
        return json.dumps({"title": error.code, "status": status, "detail": error.message}).encode()

    def event(self, error: ErrorBody, *, status: int, path: str, last: bytes) -> bytes:
        return b"data: " + self.render(error, status=status, request_id=None) + b"\n\n"

    def finished(self, last: bytes) -> bool:
        return False


ENVELOPE = flexmw.Envelope(dialects=(Messages(), Problem()))


def start(status: int, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


async def test_a_dialect_is_chosen_by_path_or_by_accept_and_openais_serves_the_rest() -> None:
    app = ENVELOPE.asgi(scripted(start(404), {"type": "http.response.body", "body": b"No cat."}))
    messages = await call(app, path="/v1/messages")
    assert json.loads(messages.body)["error"] == {"type": "invalid_request_error", "message": "No cat."}
    assert json.loads(messages.body)["request_id"] == messages.headers["x-request-id"]
    problem = await call(app, headers=[(b"accept", b"application/problem+json")])
    assert problem.headers["content-type"] == "application/problem+json"
    assert json.loads(problem.body) == {"title": "not_found", "status": 404, "detail": "No cat."}
    assert (await call(app)).error.message == "No cat."


async def test_accept_in_several_lines_is_one_list() -> None:
    @dataclass(frozen=True)
    class Both(Problem):
        def serves(self, path: str, accept: str) -> bool:
            return accept == "text/html, application/problem+json;q=0.9, application/json"

    lines = [b"text/html", b"application/problem+json;q=0.9, application/json"]
    headers = [(b"accept", lines[0]), (b"accept-language", b"de"), (b"accept", lines[1])]
    for dialect in (Problem(), Both()):
        app = flexmw.Envelope(dialects=(dialect,)).asgi(scripted(start(404)))
        assert (await call(app, headers=headers)).headers["content-type"] == "application/problem+json"
    assert (await call(app, headers=headers[:2])).error.code == "not_found"


async def test_a_body_in_a_dialect_of_the_app_passes_byte_for_byte() -> None:
    body = b'{"type":"error",  "error":{"type":"overloaded_error","message":"x"}}'
    app = ENVELOPE.asgi(scripted(start(529), {"type": "http.response.body", "body": body}))
    assert (await call(app, path="/v1/messages")).body == body


async def test_a_failed_stream_ends_in_its_dialect_unless_it_was_complete() -> None:
    event = {"type": "http.response.body", "body": b"event: ping\ndata: {}\n\n", "more_body": True}
    seen = await call(ENVELOPE.asgi(scripted(start(200, SSE), event, then=ValueError())), path="/v1/messages")
    assert b'event: error\ndata: {"type": "error"' in seen.body
    whole = {**event, "body": b"event: message_stop\ndata: {}\n\n"}
    seen = await call(ENVELOPE.asgi(scripted(start(200, SSE), whole, then=ValueError())), path="/v1/messages")
    assert seen.body == whole["body"]
    assert seen.ended


def test_the_anthropic_sdk_reads_a_response_of_its_dialect(serve: Serve) -> None:
    served = serve(ENVELOPE.asgi(scripted(then=flexmw.SubsystemOffline("The model"))))
    with anthropic.Anthropic(api_key="k", base_url=served.url, max_retries=0) as client:
        with pytest.raises(anthropic.APIStatusError) as caught:
            client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "?"}])
        assert caught.value.status_code == 503
        assert "The model is temporarily offline." in str(caught.value)
    assert httpx.get(served.url, timeout=LONGEST_WAIT).json()["error"]["code"] == "service_unavailable"


async def test_null_param_writes_the_key_always() -> None:
    app = flexmw.Envelope(null_param=True).asgi(scripted(start(404)))
    assert json.loads((await call(app)).body)["error"]["param"] is None


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(*values: str) -> None:
        points = EntryPoints(EntryPoint("acme.problem", value, module.GROUP) for value in values)
        monkeypatch.setattr("importlib.metadata.entry_points", lambda **wanted: points.select(**wanted))

    return install


def test_a_dialect_is_found_by_its_name(installed: Any) -> None:
    installed("tests.envelope.test_dialect:Problem")
    assert type(load("acme.problem")).__name__ == "Problem"
    assert isinstance(load("acme.problem"), Dialect)
    assert load(OpenAI()) == OpenAI()


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ((), "no entry point of flexmw.dialects"),
        (("a:B", "c:D"), "claimed by"),
        (("tests.envelope.nothing:X",), "failed to import"),
        (("builtins:open",), "cannot be made: TypeError"),
        (("builtins:dict",), "is no dialect"),
    ],
)
def test_a_name_that_leads_nowhere_says_what_is_wrong(installed: Any, values: tuple[str, ...], problem: str) -> None:
    installed(*values)
    with pytest.raises(flexmw.PluginError, match=problem):
        load("acme.problem")


def test_the_end_of_a_stream_is_known_by_its_last_event() -> None:
    assert OpenAI().finished(b'data: {"x":1}\n\ndata: [DONE]\n\n')
    assert OpenAI().finished(b"event: response.completed\ndata: {}\n\n")
    assert OpenAI().finished(b'event: message_stop\ndata: {"type": "message_stop"}\n\n')
    assert OpenAI().finished(b'data: {"error": {"message": "the model died"}}\n\n')
    assert not OpenAI().finished(b'data: {"content": "data: [DONE]"}\n\n')
