"""Errors of other protocols pass unchanged: by media type, or by members that only the protocol has."""

# ruff: noqa: E501
from __future__ import annotations

from typing import Any

import pytest

from flexmw.contract.bodies import FOREIGN, read_response
from flexmw.contract.protocols import media_type_names_protocol, text_names_protocol, value_names_protocol

MEDIA_TYPES = [
    ("application/scim+json", True),
    ("application/fhir+json; charset=utf-8", True),
    ("application/fhir+xml", True),
    ("application/vnd.api+json", True),
    ("application/vnd.oci.image.manifest.v1+json", True),
    ("application/graphql-response+json", True),
    ("application/x-amz-json-1.1", True),
    ("application/soap+xml", True),
    ("application/grpc", True),
    ("application/grpc-web+proto", True),
    ("application/connect+json", True),
    ("application/jose+json", True),
    ("application/activity+json", True),
    ("application/hal+json", True),
    ("application/problem+xml", True),
    ("application/x-protobuf", True),
    ("application/cbor", True),
    ("application/json;odata.metadata=minimal", True),
    ("application/json; odata=verbose", True),
    ("application/json", False),
    ("application/json; charset=utf-8", False),
    ("application/problem+json", False),
    ("application/xml", False),
    ("application/xhtml+xml", False),
    ("application/octet-stream", False),
    ("application/x-ndjson", False),
    ("text/json", False),
    ("text/plain", False),
    ("text/html", False),
    ("text/event-stream", False),
    ("image/png", False),
    ("application/", False),
    ("application", False),
    ("", False),
]


@pytest.mark.parametrize(("media_type", "foreign"), MEDIA_TYPES)
def test_a_media_type_names_a_protocol_or_a_syntax(media_type: str, foreign: bool) -> None:
    assert media_type_names_protocol(media_type) is foreign


FOREIGN_VALUES: dict[str, Any] = {
    "JSON-RPC": {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "Parse error"}},
    "JSON-RPC batch": [{"jsonrpc": "2.0", "error": {"code": 1, "message": "m"}}],
    "GraphQL": {"errors": [{"message": "m", "locations": [{"line": 1, "column": 2}], "path": ["a", 0]}], "data": None},
    "GraphQL with extensions": {"errors": [{"message": "m", "extensions": {"code": "BAD_USER_INPUT"}}]},
    "JSON:API": {"jsonapi": {"version": "1.1"}, "errors": [{"status": "404", "title": "Not found"}]},
    "OCI": {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown", "detail": {"Tag": "v1"}}]},
    "OAuth": {"error": "invalid_grant"},
    "OAuth with a description": {"error": "own_code", "error_description": "m"},
    "SCIM": {"schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"], "status": "409", "detail": "taken"},
    "FHIR": {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "not-found"}]},
    "ACME": {"type": "urn:ietf:params:acme:error:badNonce", "detail": "JWS has an invalid anti-replay nonce"},
    "JMAP": {"type": "urn:ietf:params:jmap:error:unknownCapability", "status": 400, "detail": "m"},
    "a registered problem": {"type": "https://iana.org/assignments/http-problem-types#date", "title": "T"},
    "Matrix": {"errcode": "M_LIMIT_EXCEEDED", "error": "Too many requests", "retry_after_ms": 2000},
    "Matrix, namespaced": {"errcode": "org.example.CUSTOM", "error": "m"},
    "OData 4": {"error": {"code": "E1", "message": "m", "target": "q", "details": [{"code": "E2", "message": "n"}]}},
    "OData 3": {"odata.error": {"code": "", "message": {"lang": "en-US", "value": "m"}}},
    "OData 2": {"error": {"code": "E1", "message": {"lang": "en", "value": "m"}}},
    "Kubernetes": {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404},
    "AWS JSON": {"__type": "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException", "message": "m"},
}

OWN_VALUES: dict[str, Any] = {
    "a list of REST errors": {"errors": [{"message": "m", "field": "name"}]},
    "a list of codes in lower case": {"errors": [{"code": "taken", "message": "m"}]},
    "a list of nothing": {"errors": []},
    "a problem of the app": {"type": "https://shop.example/problems/sold-out", "title": "Sold out"},
    "a text": {"error": "Too many."},
    "Azure OpenAI": {"error": {"code": "content_filter", "message": "m", "innererror": {"code": "X"}}},
    "Google": {"error": {"code": 404, "message": "m", "status": "NOT_FOUND", "details": [{"@type": "x"}]}},
    "a typed error with details": {"error": {"code": "c", "type": "t", "message": "m", "details": [{"code": "d", "message": "n"}]}},
    "an error code that is a number": {"errcode": 40001, "errmsg": "invalid credential"},
    "schemas of another kind": {"schemas": ["public"], "detail": "m"},
    "a kind of another kind": {"kind": "Status", "detail": "m"},
    "no object": 7,
    "an empty list": [],
}  # fmt: skip


@pytest.mark.parametrize("value", FOREIGN_VALUES.values(), ids=FOREIGN_VALUES)
def test_members_of_a_protocol_are_recognised(value: Any) -> None:
    assert value_names_protocol(value)


@pytest.mark.parametrize("value", OWN_VALUES.values(), ids=OWN_VALUES)
def test_an_error_of_no_protocol_is_not_taken_for_one(value: Any) -> None:
    assert not value_names_protocol(value)


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        ('<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code></Error>', True),
        ("\ufeff<Error><Code>NoSuchKey</Code></Error>", True),
        ('<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error/></ErrorResponse>', True),
        ('<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"></soap:Envelope>', True),
        ('<D:error xmlns:D="DAV:"><D:lock-token-submitted/></D:error>', True),
        ("<methodResponse><fault/></methodResponse>", True),
        ("<error><message>No.</message></error>", False),
        ("<root><detail>Not found.</detail></root>", False),
        ("<!doctype html><h1>Error</h1>", False),
        ("<html><body>Error</body></html>", False),
        ("Error: <Error>", False),
        ("", False),
    ],
)
def test_the_xml_of_a_protocol_is_recognised_by_its_root(text: str, foreign: bool) -> None:
    assert text_names_protocol(text) is foreign


def test_the_header_of_odata_names_the_protocol_too() -> None:
    headers = [(b"Content-Type", b"application/json"), (b"OData-Version", b"4.0")]
    assert read_response(headers, b'{"error":{"code":"E","message":"m"}}', 400).found is FOREIGN
    assert read_response(headers[:1], b'{"error":{"code":"E","message":"m"}}', 400).found is not FOREIGN
