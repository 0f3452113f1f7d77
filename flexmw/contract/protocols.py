"""Foreign protocols: error bodies that belong to another protocol, and must reach its clients unchanged. Pure.

A body names its protocol in one of two ways. The media type names it (SCIM, FHIR, JSON:API, AWS JSON, gRPC, CBOR), or
the body has members that only this protocol has (JSON-RPC, GraphQL, OAuth 2, Matrix, OCI, Kubernetes, ACME).

>>> media_type_names_protocol("application/scim+json"), media_type_names_protocol("application/json; charset=utf-8")
(True, False)
>>> value_names_protocol({"errcode": "M_NOT_FOUND", "error": "No such room."})
True
>>> value_names_protocol({"detail": "No such room."})
False
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from flexmw.contract.text import array_in, object_in

__all__ = ["media_type_names_protocol", "text_names_protocol", "value_names_protocol"]

_GENERIC: Final = frozenset(
    """json problem+json xml xhtml+xml octet-stream text x-json javascript x-javascript x-www-form-urlencoded
    x-ndjson ndjson jsonl x-jsonlines jsonlines json-seq""".split()  # noqa: SIM905
)
"""Subtypes of ``application`` that name a syntax and not a protocol. A body of any other subtype passes unchanged."""

_ODATA: Final = re.compile(r";\s*odata(?:\.metadata)?\s*=")

_OAUTH: Final = frozenset(
    """invalid_request invalid_client invalid_grant unauthorized_client unsupported_grant_type invalid_scope
    access_denied unsupported_response_type temporarily_unavailable authorization_pending slow_down expired_token
    invalid_token insufficient_scope invalid_redirect_uri invalid_client_metadata invalid_software_statement
    unapproved_software_statement unsupported_token_type invalid_target login_required consent_required
    interaction_required account_selection_required invalid_request_uri invalid_request_object request_not_supported
    request_uri_not_supported registration_not_supported invalid_dpop_proof use_dpop_nonce
    insufficient_user_authentication""".split()  # noqa: SIM905
)
"""The registered OAuth error codes: RFC 6749, 6750, 7009, 7591, 8628, 8707, 9449, 9470, OpenID Connect Core."""

_PROBLEM_TYPES: Final = ("urn:ietf:params:", "https://iana.org/assignments/http-problem-types#")
"""Problem types that a standard registers: ACME (RFC 8555 section 6.7), JMAP (RFC 8620), and IANA's registry (RFC 9457
section 4.2)."""

_GRAPHQL_ERROR: Final = frozenset({"message", "locations", "path", "extensions"})
"""GraphQL specification, section 7.1.2: an error has no other members."""

_OCI_ERROR: Final = frozenset({"code", "message", "detail"})
_OCI_CODE: Final = re.compile(r"[A-Z][A-Z_]*")
_MATRIX_CODE: Final = re.compile(r"[A-Z]+_[A-Z_]+|[a-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+")

_XML_ROOT: Final = re.compile(r"\s*(?:<\?xml[^>]{0,200}\?>\s*)?<(?:[A-Za-z][\w.-]{0,60}:)?([A-Za-z][\w.-]{0,60})[\s/>]")
_XML_ROOTS: Final = frozenset(
    """Error ErrorResponse Envelope Fault methodResponse multistatus ExceptionReport ServiceExceptionReport OAI-PMH
    OperationOutcome""".split()  # noqa: SIM905
)
"""Root elements of errors in XML protocols: S3 and Azure Storage, AWS Query, SOAP, XML-RPC, WebDAV, OGC, OAI-PMH,
FHIR."""


def media_type_names_protocol(content_type: str) -> bool:
    """True if a media type belongs to one protocol; False for general JSON, XML, text and HTML.

    :param content_type: the ``Content-Type``, in lower case.
    """
    if _ODATA.search(content_type):
        return True
    major, _, subtype = content_type.partition(";")[0].strip().partition("/")
    return major == "application" and bool(subtype) and subtype not in _GENERIC


def text_names_protocol(text: str) -> bool:
    """True if a text is XML whose root element is a protocol's error."""
    if not text.lstrip("\ufeff \t\r\n").startswith("<"):
        return False
    root = _XML_ROOT.match(text.lstrip("\ufeff"))
    return root is not None and (root[1] in _XML_ROOTS or (root[1] == "error" and '"DAV:"' in text[:500]))


def value_names_protocol(value: object) -> bool:
    """True if a JSON value has the members of a protocol's error."""
    if items := array_in(value):
        return all("jsonrpc" in object_in(item) for item in items)
    members = object_in(value)
    return bool(members) and any(signature(members) for signature in _SIGNATURES)


def _is_json_rpc(value: dict[str, Any]) -> bool:
    """JSON-RPC 2.0, which MCP and LSP use."""
    return "jsonrpc" in value


def _is_json_api(value: dict[str, Any]) -> bool:
    """JSON:API without its media type: the top-level member ``jsonapi``."""
    return "jsonapi" in value and "errors" in value


def _is_graphql(value: dict[str, Any]) -> bool:
    errors = [object_in(item) for item in array_in(value.get("errors"))]
    return (
        bool(errors)
        and value.keys() <= {"errors", "data", "extensions"}
        and all(isinstance(error.get("message"), str) and error.keys() <= _GRAPHQL_ERROR for error in errors)
    )


def _is_oci(value: dict[str, Any]) -> bool:
    """OCI Distribution Specification, "Error Codes"."""
    errors = [object_in(item) for item in array_in(value.get("errors"))]
    return (
        bool(errors)
        and value.keys() == {"errors"}
        and all(
            isinstance(error.get("code"), str) and _OCI_CODE.fullmatch(error["code"]) and error.keys() <= _OCI_ERROR
            for error in errors
        )
    )


def _is_oauth(value: dict[str, Any]) -> bool:
    error = value.get("error")
    return isinstance(error, str) and (error in _OAUTH or "error_description" in value)


def _is_scim(value: dict[str, Any]) -> bool:
    """RFC 7644 section 3.12."""
    return any(
        isinstance(schema, str) and schema.startswith("urn:ietf:params:scim:")
        for schema in array_in(value.get("schemas"))
    )


def _is_fhir(value: dict[str, Any]) -> bool:
    return value.get("resourceType") == "OperationOutcome"


def _is_registered_problem(value: dict[str, Any]) -> bool:
    problem_type = value.get("type")
    return isinstance(problem_type, str) and problem_type.startswith(_PROBLEM_TYPES)


def _is_matrix(value: dict[str, Any]) -> bool:
    """Matrix Client-Server API, "Standard error response"."""
    code = value.get("errcode")
    return isinstance(code, str) and _MATRIX_CODE.fullmatch(code) is not None


def _is_odata(value: dict[str, Any]) -> bool:
    """OData JSON Format 4.01 section 21, and the forms of OData 2 and 3. An error with a ``type`` is not OData's."""
    if "odata.error" in value:
        return True
    error = object_in(value.get("error"))
    message, details = error.get("message"), array_in(error.get("details"))
    if not isinstance(error.get("code"), str) or "type" in error or value.keys() != {"error"}:
        return False
    if object_in(message).keys() == {"lang", "value"}:
        return True
    return bool(details) and all(
        isinstance(object_in(item).get("code"), str) and isinstance(object_in(item).get("message"), str)
        for item in details
    )


def _is_kubernetes(value: dict[str, Any]) -> bool:
    return value.get("kind") == "Status" and isinstance(value.get("apiVersion"), str)


def _is_aws_json(value: dict[str, Any]) -> bool:
    """AWS JSON 1.0 and 1.1, which some services send as ``application/json``."""
    return isinstance(value.get("__type"), str)


_SIGNATURES: Final[tuple[Callable[[dict[str, Any]], bool], ...]] = (
    _is_json_rpc,
    _is_json_api,
    _is_graphql,
    _is_oci,
    _is_oauth,
    _is_scim,
    _is_fhir,
    _is_registered_problem,
    _is_matrix,
    _is_odata,
    _is_kubernetes,
    _is_aws_json,
)
"""One row per protocol."""
