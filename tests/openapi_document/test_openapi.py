"""``flexmw.openapi``: the document of an app, with the errors that it will send."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Header
from fastapi.security import HTTPBearer
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator
from litestar import Litestar, get, post
from litestar.params import JSONBody
from litestar.testing import TestClient as LitestarClient
from openapi_spec_validator import validate
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.applications import Starlette

import flexmw
from flexmw.contract import ErrorBody
from flexmw.envelope.dialect import OpenAI
from flexmw.openapi_document.merge import with_errors

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
REFERENCE = {"$ref": "#/components/schemas/ErrorResponse"}
KEY = {"idempotency-key": "k1"}


class Order(BaseModel):
    age: int


class Mine(BaseModel):
    detail: str


def shop(*components: Any, **options: Any) -> FastAPI:
    """An app with one operation of each kind."""
    app = FastAPI(**options)
    mine: dict[int | str, dict[str, Any]] = {404: {"model": Mine, "description": "No such order."}}

    @app.post("/v1/orders/{number}", responses=mine, dependencies=[Depends(HTTPBearer())])
    def order(number: int, order: Order) -> Order:
        return order

    @app.get("/health")
    def health() -> str:
        return "fine"

    return flexmw.install(app, *components) if components else app


def responses(document: dict[str, Any], path: str = "/v1/orders/{number}", method: str = "post") -> dict[str, Any]:
    found: dict[str, Any] = document["paths"][path][method]["responses"]
    return found


def codes(response: dict[str, Any]) -> set[str]:
    return set(response["content"]["application/json"].get("examples", {}))


def assert_valid(document: dict[str, Any]) -> None:
    """The document follows the standard, and each of its references leads to something: the validator follows none to
    a header."""
    validate(document)
    for reference in re.findall(r'"#/([^"]+)"', json.dumps(document)):
        part = document
        for name in reference.split("/"):
            part = part[name.replace("~1", "/").replace("~0", "~")]


def stack() -> tuple[Any, ...]:
    limiter = flexmw.RateLimit("5/hour", exempt="/health", headers=("unix", "ietf"))
    return flexmw.Envelope(), limiter, flexmw.Idempotency(required="/v1/*")


def test_every_error_of_an_operation_has_the_envelope_and_its_kinds() -> None:
    document = flexmw.openapi(shop(*stack()))
    assert_valid(document)
    found = responses(document)
    assert {status: codes(response) for status, response in found.items() if status != "200"} == {
        "400": {"invalid_json", "idempotency_key_invalid", "idempotency_key_required"},
        "401": {"invalid_api_key"},
        "404": {"not_found"},
        "409": {"idempotency_in_progress", "idempotency_answer_not_kept", "idempotency_unknown"},
        "413": {"request_too_large"},
        "422": {"validation_error", "idempotency_key_reused"},
        "429": {"rate_limit_exceeded"},
        "500": {"internal_error"},
        "503": {"service_unavailable"},
        "4XX": set(),
        "5XX": set(),
    }
    for status, response in found.items():
        if status != "200":
            assert response["content"]["application/json"]["schema"] == REFERENCE
            assert "x-request-id" in response["headers"]
    assert found["404"]["description"] == "No such order."
    assert {"Retry-After", "retry-after-ms", "x-ratelimit-reset-requests", "RateLimit"} <= found["429"][
        "headers"
    ].keys()
    assert {"x-ratelimit-remaining-requests", "Idempotent-Replayed"} <= found["200"]["headers"].keys()
    assert set(document["components"]["schemas"]) == {"Order", "ErrorResponse"}
    (parameter,) = [
        each for each in document["paths"]["/v1/orders/{number}"]["post"]["parameters"] if each["in"] == "header"
    ]
    assert (parameter["name"], parameter["required"]) == ("Idempotency-Key", True)


def test_an_operation_has_only_the_errors_that_it_can_send() -> None:
    document = flexmw.openapi(shop(*stack()))
    health = responses(document, "/health", "get")
    assert set(health) == {"200", "500", "4XX", "5XX"}
    assert "headers" not in health["200"]
    assert "parameters" not in document["paths"]["/health"]["get"]
    document = flexmw.openapi(shop(flexmw.Envelope(), flexmw.RateLimit("5/hour", shadow=True)))
    assert "429" not in responses(document)
    assert "x-ratelimit-limit-requests" in responses(document)["200"]["headers"]
    document = flexmw.openapi(shop(flexmw.Envelope(), flexmw.RateLimit(limit={"/v1/*": "5/hour"})))
    assert ("429" in responses(document), "429" in responses(document, "/health", "get")) == (True, False)
    document = flexmw.openapi(shop(flexmw.Envelope(), flexmw.RateLimit("9/hour", exempt=lambda scope: True)))
    assert "429" in responses(document), "what a function exempts only a request can tell"


def test_what_the_app_sends_is_what_its_document_says() -> None:
    app = shop(*stack())
    document = flexmw.openapi(app)
    schema = {**document["components"]["schemas"]["ErrorResponse"], "components": document["components"]}
    client = TestClient(app, headers={"authorization": "Bearer k"}, raise_server_exceptions=False)
    sent = [
        client.post("/v1/orders/1", json={"age": 1}),
        client.post("/v1/orders/1", content=b"{", headers={**KEY, "content-type": "application/json"}),
        client.post("/v1/orders/1", json={"age": "x"}, headers={"idempotency-key": "k2"}),
        client.post("/v1/orders/1", json={"age": "y"}, headers={"idempotency-key": "k2"}),
        client.post("/v1/orders/1", json={"age": 1}, headers={"idempotency-key": "k3", "authorization": ""}),
    ]
    sent += [client.post("/v1/orders/1", json={"age": 1}) for _ in range(2)]
    assert {response.status_code for response in sent} == {400, 401, 422, 429}
    for response in sent:
        documented = responses(document)[str(response.status_code)]
        assert response.json()["error"]["code"] in codes(documented)
        Draft202012Validator(schema).validate(response.json())
        assert {name.lower() for name in documented["headers"]} >= {
            name for name in response.headers if name.startswith(("x-", "retry-", "ratelimit", "www-"))
        }


@pytest.mark.parametrize("way", ["serve", "method", "wrapped"])
def test_the_document_is_served_by_one_line(way: str) -> None:
    app = shop(flexmw.Envelope()) if way != "wrapped" else shop()
    served: Any = app if way != "wrapped" else flexmw.wrap_app(app, flexmw.Envelope())
    plain = copy.deepcopy(app.openapi())
    if way == "method":
        app.openapi = lambda: flexmw.openapi(app)  # type: ignore[method-assign]
    else:
        flexmw.openapi(served, serve=True)
        flexmw.openapi(served, serve=True)
    client = TestClient(served)
    assert client.get("/openapi.json").json() == flexmw.openapi(served) != plain
    assert codes(responses(flexmw.openapi(served))["400"]) == {"invalid_json"}

    @app.get("/late")
    def late() -> None: ...

    assert responses(client.get("/openapi.json").json(), "/late", "get")["500"]["content"]


def test_components_in_the_list_of_middleware_and_limits_of_routes_count() -> None:
    app = FastAPI()
    router = APIRouter(dependencies=[Depends(flexmw.limit("5/minute"))])

    @router.get("/dependency")
    def dependency() -> None: ...

    @app.get("/decorated")
    @flexmw.limit("5/minute")
    def decorated() -> None: ...

    app.include_router(router, prefix="/v1")
    app.add_middleware(flexmw.Idempotency, methods=("PUT",))  # type: ignore[arg-type]
    app.add_middleware(flexmw.Envelope().asgi)

    @app.put("/put")
    def put(idempotency_key: str | None = Header(None)) -> None: ...

    document = flexmw.openapi(app)
    validate(document)
    for path in ("/v1/dependency", "/decorated"):
        assert codes(responses(document, path, "get")["429"]) == {"rate_limit_exceeded"}
    assert "429" not in responses(document, "/put", "put")
    assert "409" in responses(document, "/put", "put")
    assert len(document["paths"]["/put"]["put"]["parameters"]) == 1, "the app has named the header itself"


def test_a_parameter_that_the_app_declares_is_required_where_a_key_is() -> None:
    app = flexmw.install(FastAPI(), flexmw.Envelope(), flexmw.Idempotency(required="POST /required"))
    for path in ("/required", "/free"):

        @app.post(path)
        def post(idempotency_key: str | None = Header(None, description="The app's own words.")) -> None: ...

    document = flexmw.openapi(app)
    assert_valid(document)
    for path, is_required in (("/required", True), ("/free", False)):
        (parameter,) = document["paths"][path]["post"]["parameters"]
        assert (parameter["required"], parameter["description"]) == (is_required, "The app's own words.")


def test_an_error_that_the_app_documents_without_a_schema_gets_that_of_the_limiter() -> None:
    app = flexmw.install(FastAPI(), flexmw.RateLimit("5/hour"))

    @app.get("/x", responses={429: {"content": {"text/plain": {}}}})
    def x() -> None: ...

    content = responses(flexmw.openapi(app), "/x", "get")["429"]["content"]
    assert content["application/json"]["schema"] == REFERENCE
    assert content["text/plain"] == {}


def test_litestar_has_the_same() -> None:
    @post("/orders/{number:int}")
    async def order(number: int, data: JSONBody[Order]) -> Order:
        return data

    @get("/limited", guards=[flexmw.limit("5/minute")])
    async def limited() -> str:
        return "fine"

    app = flexmw.install(Litestar([order, limited], logging_config=None), flexmw.Envelope(), flexmw.Idempotency())
    document = flexmw.openapi(app, serve=True)
    assert_valid(document)
    found = responses(document, "/orders/{number}")
    assert codes(found["400"]) == {"validation_error", "idempotency_key_invalid"}
    assert codes(responses(document, "/limited", "get")["429"]) == {"rate_limit_exceeded"}
    with LitestarClient(app) as client:
        assert client.get("/schema/openapi.json").json() == document
        sent = client.post("/orders/1", json={"age": "x"})
    assert sent.json()["error"]["code"] in codes(found[str(sent.status_code)])


def test_options_of_the_envelope_are_those_of_the_document() -> None:
    plain: dict[str, Any] = {"request_id": None, "should_retry": False}
    envelope = flexmw.Envelope(validation_status=400, null_param=True, passthrough=("/health",), **plain)
    document = flexmw.openapi(shop(envelope))
    assert_valid(document)
    found = responses(document)
    assert "422" not in found
    assert codes(found["400"]) == {"validation_error", "invalid_json"}
    assert "headers" not in found["400"]
    schema = document["components"]["schemas"]["ErrorResponse"]["properties"]["error"]
    assert "param" in schema["required"]
    assert responses(document, "/health", "get").keys() == {"200"}


def test_a_limiter_without_an_envelope_documents_its_own_errors_beside_those_of_the_app() -> None:
    app = flexmw.install(FastAPI(), flexmw.RateLimit("5/hour"))

    @app.get("/x", responses={429: {"model": Mine}}, dependencies=[Depends(flexmw.limit("5/minute"))])
    def x(q: int) -> None: ...

    document = flexmw.openapi(app)
    assert_valid(document)
    found = responses(document, "/x", "get")
    schema = found["429"]["content"]["application/json"]["schema"]
    assert schema == {"anyOf": [{"$ref": "#/components/schemas/Mine"}, REFERENCE]}
    assert "HTTPValidationError" in json.dumps(found["422"])
    assert set(found) == {"200", "422", "429"}


@pytest.mark.parametrize(
    ("app", "advice"),
    [
        (Starlette(), "FastAPI or Litestar"),
        (FastAPI(), r"flexmw\.install"),
        (Litestar([], openapi_config=None, logging_config=None), "openapi_config"),
        (None, "FastAPI or Litestar"),
    ],
    ids=["starlette", "no components", "no document", "None"],
)
def test_an_app_without_a_document_to_add_to_is_refused(app: Any, advice: str) -> None:
    with pytest.raises(flexmw.ConfigError, match=advice):
        flexmw.openapi(app)


def test_an_error_body_is_a_response_model() -> None:
    class Detailed(BaseModel):
        error: dict[str, str]

    app = FastAPI(responses={"4XX": {"model": ErrorBody}})

    @app.get("/x")
    def x() -> ErrorBody:
        return ErrorBody(message="m", type="t", code="c")

    @app.get("/own", responses={409: {"model": Detailed}})
    def own() -> None: ...

    schema = responses(app.openapi(), "/x", "get")["4XX"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["error"]
    sent = TestClient(app).get("/x").json()
    assert sent == {"error": {"message": "m", "type": "t", "code": "c"}}
    Draft202012Validator(schema).validate(sent)
    adapter = TypeAdapter(ErrorBody)
    assert adapter.validate_python(sent) == ErrorBody(message="m", type="t", code="c")
    with pytest.raises(ValidationError, match="expected"):
        adapter.validate_python({"detail": "no"})
    document = flexmw.openapi(flexmw.install(app))
    assert responses(document, "/x", "get")["4XX"]["content"]["application/json"]["schema"] == REFERENCE
    own_schema = responses(document, "/own", "get")["409"]["content"]["application/json"]["schema"]
    assert own_schema == {"$ref": "#/components/schemas/Detailed"}, (
        "an envelope with members of its own is sent as it is"
    )


class Problems(OpenAI):
    """A dialect for the paths below /v1."""

    @property
    def media_type(self) -> str:
        return "application/problem+json"

    def serves(self, path: str, accept: str) -> bool:
        return path.startswith("/v1")


def test_errors_in_the_format_of_a_dialect_have_its_media_type() -> None:
    document = flexmw.openapi(shop(flexmw.Envelope(dialects=(Problems(),)), flexmw.RateLimit("5/hour")))
    validate(document)
    errors = {status: response for status, response in responses(document).items() if status != "200"}
    assert errors.keys() == {"404", "422", "429"}
    assert all(response["content"] == {"application/problem+json": {}} for response in errors.values())
    assert errors["429"]["headers"].keys() >= {"Retry-After", "x-request-id"}
    assert responses(document, "/health", "get")["429"]["content"]["application/json"]["schema"] == REFERENCE


def test_an_old_document_a_taken_name_and_a_shared_response_are_understood() -> None:
    document = {
        "openapi": "3.0.3",
        "info": {"title": "t", "version": "1"},
        "paths": {
            "/x": {"get": {"responses": {"200": {"description": "ok"}, "404": {"$ref": "#/components/responses/Gone"}}}}
        },
        "components": {
            "responses": {"Gone": {"description": "Gone."}},
            "schemas": {"ErrorResponse": {"type": "object", "title": "the app's own"}},
        },
    }
    before = copy.deepcopy(document)
    complete = with_errors(document, [flexmw.Envelope()], {}, reads_json=False)
    validate(complete)
    assert document == before
    assert complete["components"]["schemas"]["ErrorResponse"] == before["components"]["schemas"]["ErrorResponse"]
    error = complete["components"]["schemas"]["FlexmwErrorResponse"]["properties"]["error"]
    assert error["properties"]["code"]["nullable"] is True
    assert codes(responses(complete, "/x", "get")["404"]) == {"not_found"}
