from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from flexmw_problem_details import ProblemDetails

import flexmw
from flexmw.contract import ErrorBody
from flexmw.envelope import Dialect

PROBLEM = "application/problem+json"
REPORTED = b'data: 1\n\nevent: error\ndata: {"title":"Full"}\n\n'


@dataclass(frozen=True)
class Problem:
    """What a reader makes of a response by RFC 9457 alone: five members, ignored if of a wrong type; the rest."""

    type: str
    title: str | None
    status: int
    detail: str | None
    instance: str | None
    extensions: dict[str, Any]


def read(response: httpx.Response) -> Problem:
    assert response.headers["content-type"] == PROBLEM
    value = response.json()

    def member(name: str, kind: type) -> Any:
        found = value.pop(name, None)
        return found if isinstance(found, kind) else None

    return Problem(
        type=member("type", str) or "about:blank",
        title=member("title", str),
        status=member("status", int) or response.status_code,
        detail=member("detail", str),
        instance=member("instance", str),
        extensions=value,
    )


async def app(scope: Any, receive: Any, send: Any) -> None:
    match scope["path"]:
        case "/model":
            raise flexmw.ModelNotFound("foo")
        case "/documented":
            raise flexmw.APIError("No.", status=409, code="taken", doc_url="https://docs.test/taken")
        case "/own":
            body = b'{"type":"https://acme.test/full","title":"Full","status":507,"room":0}'
            headers = [(b"content-type", PROBLEM.encode()), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 507, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        case "/reported":
            start = {"status": 200, "headers": [(b"content-type", b"text/event-stream")]}
            await send({"type": "http.response.start", **start})
            await send({"type": "http.response.body", "body": REPORTED, "more_body": True})
            raise ValueError("secret")
        case "/stream":
            start = {"status": 200, "headers": [(b"content-type", b"text/event-stream")]}
            await send({"type": "http.response.start", **start})
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
            raise ValueError("secret")
        case _:
            raise ValueError("secret")


@pytest.fixture
def get(serve: Callable[[Any], str]) -> Callable[..., httpx.Response]:
    def ask(path: str, accept: str = PROBLEM, **options: Any) -> httpx.Response:
        url = serve(flexmw.wrap_app(app, flexmw.Envelope(dialects=(ProblemDetails(**options),))))
        return httpx.get(url + path, headers={"accept": accept}, trust_env=False)

    return ask


def test_whoever_asks_for_problems_gets_problems(get: Callable[..., httpx.Response]) -> None:
    problem = read(get("/model"))
    assert (problem.type, problem.title, problem.status) == ("about:blank", "Bad Request", 400)
    assert "'foo'" in str(problem.detail)
    assert problem.extensions["code"] == "model_not_found"
    assert problem.extensions["param"] == "model"


def test_all_others_get_the_contract(get: Callable[..., httpx.Response]) -> None:
    response = get("/model", accept="*/*")
    assert response.headers["content-type"] == "application/json"
    assert response.json()["error"]["code"] == "model_not_found"


def test_it_can_be_for_everyone(get: Callable[..., httpx.Response]) -> None:
    assert read(get("/model", accept="*/*", always=True)).status == 400


def test_a_documented_error_has_its_page_as_its_type(get: Callable[..., httpx.Response]) -> None:
    assert read(get("/documented")).type == "https://docs.test/taken"


def test_a_problem_of_the_app_passes_byte_for_byte(get: Callable[..., httpx.Response]) -> None:
    response = get("/own")
    assert response.content == b'{"type":"https://acme.test/full","title":"Full","status":507,"room":0}'


def test_a_crash_says_nothing_of_its_exception(get: Callable[..., httpx.Response]) -> None:
    response = get("/crash")
    assert read(response).title == "Internal Server Error"
    assert "secret" not in response.text


def test_a_stream_that_breaks_ends_with_a_problem(get: Callable[..., httpx.Response]) -> None:
    text = get("/stream").text
    assert text.startswith("data: 1\n\nevent: error\ndata: {")
    problem = json.loads(text.split("data: ")[-1])
    assert (problem["status"], problem["code"]) == (500, "internal_error")


def test_a_stream_that_has_ended_with_an_error_event_gets_no_second_one(get: Callable[..., httpx.Response]) -> None:
    assert get("/reported").content == REPORTED


@pytest.mark.parametrize(
    ("accept", "served"),
    [
        (PROBLEM, True),
        ("Application/Problem+JSON; q=0.5, text/html", True),
        (f"{PROBLEM};q=0.4, application/json", False),
        (f"{PROBLEM}, application/json", True),
        (f"{PROBLEM};q=0", False),
        ("*/*", False),
        ("application/*", False),
        ("", False),
        ("application/json", False),
    ],
)
def test_accept_decides(accept: str, served: bool) -> None:
    assert ProblemDetails().serves("/", accept) is served


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"title": "Full"}, True),
        ({"type": "about:blank", "status": 404}, True),
        ({"type": "about:blank", "status": "404"}, False),
        ({"detail": "Not Found"}, False),
        ({"type": "x", "error": {}}, False),
        ([], False),
    ],
)
def test_only_problems_are_kept(value: Any, kept: bool) -> None:
    assert ProblemDetails().keeps(value) is kept


def test_a_status_without_a_phrase_has_a_title_too() -> None:
    body = json.loads(ProblemDetails().render(ErrorBody(message="No.", type="x"), status=599, request_id="r1"))
    assert body == {"type": "about:blank", "title": "HTTP 599", "status": 599, "detail": "No.", "request_id": "r1"}


def test_it_is_a_dialect() -> None:
    assert isinstance(ProblemDetails(), Dialect)
