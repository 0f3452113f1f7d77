"""What a client sent never comes back in an error of a FastAPI app, and no exception's text is in a 5xx.

The promises in SECURITY.md: "no input of a failed validation in a 4xx", "No text of an exception in a 5xx".
"""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any, Literal

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator
from typing_extensions import TypedDict

import flexmw
from flexmw.envelope.field_names import field_names
from tests.wire import call

pytestmark = pytest.mark.anyio

INPUT = "S3CRETINPUT"


@dataclasses.dataclass
class Point:
    x: int


class Options(TypedDict):
    depth: int


class A(BaseModel):
    kind: Literal["a"]
    count: int = 0


class B(BaseModel):
    kind: Literal["b"]


Tagged = Annotated[Annotated[A, Tag("left")] | Annotated[B, Tag("right")], Discriminator(lambda value: "left")]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")
    union: Annotated[A | B, Field(discriminator="kind")] | None = None
    table: dict[str, int] | None = None
    nested: dict[str, list[A]] | None = None
    keys: dict[int, int] | None = None
    checked: str | None = None
    whole: dict[str, str] | None = None
    aliased: int | None = Field(None, validation_alias=AliasChoices("one", AliasPath("two", "three")))
    tagged: (
        Annotated[Annotated[A, Tag("left")] | Annotated[B, Tag("right")], Discriminator(lambda value: "left")] | None
    ) = None
    point: Point | None = None
    options: Options | None = None

    @field_validator("checked", "whole")
    @classmethod
    def refuse(cls, value: Any) -> Any:
        raise ValueError(f"bad value {json.dumps(value)[:16]} of {cls.__name__}")


app = FastAPI()


@app.post("/m")
def create(model: Model, n: int = 0) -> int:
    return n


served = flexmw.wrap_app(app, flexmw.Envelope())


async def refused(body: Any, query: bytes = b"") -> dict[str, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = [(b"content-type", b"application/json")]
    receives = [{"type": "http.request", "body": raw}]
    scope = {"query_string": query}
    seen = await call(served, method="POST", path="/m", headers=headers, receives=receives, scope=scope)
    assert seen.status in (400, 422)
    assert INPUT not in seen.body.decode()
    assert INPUT[:8].lower() not in seen.body.decode().lower()
    error: dict[str, Any] = json.loads(seen.body)["error"]
    return error


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"union": {"kind": INPUT}}, "union"),
        ({INPUT: 1}, "*"),
        ({"table": {INPUT: "x"}}, "table.*"),
        ({"nested": {INPUT: [{"kind": "a", "count": INPUT}]}}, "nested.*[0].count"),
        ({"keys": {INPUT: 1}}, "keys.*"),
        ({"checked": INPUT}, "checked"),
        ({"whole": {"a": INPUT}}, "whole"),
        ({"one": INPUT}, "one"),
        ({"tagged": {"kind": "a", "count": INPUT}}, "tagged.left.count"),
        ({"point": {"x": INPUT}}, "point.x"),
        ({"options": {"depth": INPUT}}, "options.depth"),
    ],
    ids=str,
)
async def test_no_shape_of_validation_repeats_the_input(body: Any, param: str) -> None:
    assert (await refused(body))["param"] == param


async def test_a_parameter_of_the_query_keeps_its_name() -> None:
    assert (await refused({}, b"n=" + INPUT.encode()))["param"] == "n"


async def test_a_body_that_is_no_json_is_not_repeated() -> None:
    assert (await refused(b'{"a": ' + INPUT.encode()))["code"] == "invalid_json"


def test_names_are_known_for_fastapi_routes_alone() -> None:
    assert field_names({"type": "http"}) is None


TEXT = "internal host db-7.corp down"
CRASHES: dict[str, tuple[Exception, Any]] = {
    "plain": (RuntimeError(TEXT), lambda error: {"detail": str(error)}),
    "with a password": (RuntimeError(f"{TEXT} redis://a:pw@h/0"), lambda error: {"detail": str(error)}),
    "password first": (RuntimeError(f"redis://a:pw@h/0 {TEXT}"), lambda error: {"detail": str(error)}),
    "with control characters": (RuntimeError(f"x\0 \x07 {TEXT}"), lambda error: {"detail": str(error)}),
    "repr": (RuntimeError(TEXT), lambda error: {"detail": repr(error)}),
    "repr with quotes and a new line": (RuntimeError(f'it\'s "x"\n{TEXT}'), lambda error: {"detail": repr(error)}),
    "class and text": (RuntimeError(TEXT), lambda error: {"error": f"{type(error).__name__}: {error}"}),
    "cut": (RuntimeError(TEXT), lambda error: {"detail": str(error)[:20]}),
    "in capitals": (RuntimeError(TEXT), lambda error: {"detail": str(error).upper()}),
    "first argument": (RuntimeError(TEXT, 5), lambda error: {"detail": error.args[0]}),
    "context": (RuntimeError(TEXT), lambda error: {"detail": f"{error.__context__} {error}"}),
    "key": (KeyError(TEXT), lambda error: {"detail": error.args[0]}),
    "list": (RuntimeError(TEXT), lambda error: {"errors": [str(error)]}),
    "nested": (RuntimeError(TEXT), lambda error: {"detail": {"cause": [{"message": str(error)}]}}),
    "text": (RuntimeError(TEXT), str),
    "page": (RuntimeError(TEXT), lambda error: f"<html><body><h1>Oh no</h1><pre>{error}</pre></body></html>"),
}
"""An exception, and the content that an app's handler makes of it. Two shapes pass, because the app has chosen the
words of the contract itself: an ``HTTPException(500, str(error))``, and an envelope of the app's own."""


def crashing(shape: str) -> FastAPI:
    """An app whose handler puts the text of an exception into a 500."""
    error, content = CRASHES[shape]
    app = FastAPI()

    @app.exception_handler(Exception)
    async def respond(request: Request, error: Exception) -> Response:
        shown = content(error)
        return PlainTextResponse(shown, 500) if isinstance(shown, str) else JSONResponse(shown, 500)

    @app.get("/")
    def crash() -> None:
        raise error

    return app


@pytest.mark.parametrize("shape", CRASHES)
async def test_no_handler_of_the_app_brings_the_text_of_an_exception_into_a_5xx(shape: str) -> None:
    seen = await call(flexmw.wrap_app(crashing(shape), flexmw.Envelope()), scope={"query_string": b""})
    assert seen.status == 500
    assert "corp" not in seen.body.decode().lower()
    assert "internal host" not in seen.body.decode().lower()
