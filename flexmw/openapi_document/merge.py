"""Put what components say about each operation into an OpenAPI document. Pure: values in, a new document out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from http import HTTPStatus
from typing import Any, Final

from flexmw.contract import ErrorBody, for_status
from flexmw.contract.error_schema import error_schema
from flexmw.errors import APIError
from flexmw.kit.documentation import Documentation, Documented, Operation
from flexmw.openapi_document.header_schemas import header_schema

__all__ = ["with_errors"]

_METHODS: Final = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
_NAMES: Final = ("ErrorResponse", "FlexmwErrorResponse")
_VALIDATION: Final = "#/components/schemas/HTTPValidationError"
"""The schema that FastAPI names for a failed validation."""

_OTHERS: Final = {"4XX": "Any other error of the request.", "5XX": "Any other error of the server."}
"""The responses to statuses without a response of their own. ``default`` would also stand for good responses that the
app does not declare."""


def with_errors(
    document: Mapping[str, Any],
    components: Sequence[Documented],
    of_routes: Mapping[tuple[str, str], Sequence[Documented]],
    *,
    reads_json: bool,
) -> dict[str, Any]:
    """A copy of the document, with the errors that the components send.

    :param document: an OpenAPI document, version 3.0 or 3.1.
    :param components: the components around the app, outermost first.
    :param of_routes: limits of single routes, by path template and method.
    :param reads_json: the framework refuses a malformed JSON body before the endpoint sees it.
    """
    complete: dict[str, Any] = deepcopy(dict(document))
    errors = _Errors(complete)
    for path, item in complete.get("paths", {}).items():
        for method in _METHODS & item.keys():
            fields = item[method]
            operation = Operation(
                method=method.upper(),
                path=path,
                reads_json=reads_json and _has_json_body(fields),
                is_secured=any(fields.get("security", complete.get("security", ()))),
            )
            documents = [component.documents(operation) for component in components]
            documents += [
                limit.documents(operation)
                for limit in of_routes.get((path, operation.method), ())
                if any(outer.rewrites for outer in documents)
            ]
            _OperationErrors(fields, documents, errors).write()
    errors.remove_unused()
    return complete


def _has_json_body(fields: Mapping[str, Any]) -> bool:
    content: Mapping[str, Any] = fields.get("requestBody", {}).get("content", {})
    return any("json" in media_type for media_type in content)


class _Errors:
    """The schemas and headers that operations of one document refer to."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._null_keyword = str(document.get("openapi", "")).startswith("3.0")
        self._referenced = _references(document)

    def reference(self, *, null_param: bool) -> dict[str, str]:
        """A reference to the schema of an error, which is added to the document at its first use."""
        schema = error_schema(null_param=null_param, null_keyword=self._null_keyword)
        schemas = self._document.setdefault("components", {}).setdefault("schemas", {})
        free = (name for name in (*_NAMES, *(f"{_NAMES[1]}{n}" for n in range(2, 99))))
        name = next(name for name in free if schemas.setdefault(name, schema) == schema)
        return {"$ref": f"#/components/schemas/{name}"}

    def header(self, name: str) -> dict[str, str]:
        """A reference to a header, which is added to the document at its first use."""
        headers = self._document.setdefault("components", {}).setdefault("headers", {})
        headers.setdefault(name, header_schema(name))
        return {"$ref": f"#/components/headers/{name}"}

    def resolve(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """A schema, or the one of the document that it refers to."""
        name = str(schema.get("$ref", "")).removeprefix("#/components/schemas/")
        found: Mapping[str, Any] = self._document.get("components", {}).get("schemas", {}).get(name, schema)
        return found

    def is_foreign_envelope(self, schema: Mapping[str, Any]) -> bool:
        """Whether a schema has the contract's shape, but is not that of ``ErrorBody``."""
        resolved = self.resolve(schema)
        members = resolved.get("properties", {})
        return "error" in members and members != error_schema()["properties"]

    def remove_unused(self) -> None:
        """Remove the schemas of bodies that were replaced, where nothing refers to them any more."""
        schemas: dict[str, Any] = self._document.get("components", {}).get("schemas", {})
        while unused := (self._referenced - _references(self._document)) & schemas.keys():
            for name in unused:
                del schemas[name]


def _references(document: Mapping[str, Any]) -> set[str]:
    """The names of the schemas that a document refers to."""
    return set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))


class _OperationErrors:
    """The responses of one operation, which are written in place.

    :param fields: the operation in the document.
    :param documents: what each component does to it.
    """

    def __init__(self, fields: dict[str, Any], documents: Sequence[Documentation], errors: _Errors) -> None:
        self._fields, self._documents, self._errors = fields, documents, errors
        self._responses: dict[str, Any] = fields.setdefault("responses", {})
        self._rewrites = any(document.rewrites for document in documents)
        self._null_param = any(document.null_param for document in documents)
        self._dialect = next((document.dialect for document in documents if document.dialect), None)

    def write(self) -> None:
        """Write parameters, errors and headers."""
        for document in self._documents:
            self._add_parameters(document.parameters)
        if self._dialect is not None:
            for status in [status for status in self._responses if _is_error(status)]:
                self._responses[status] = self._in_dialect(self._responses[status])
        elif self._rewrites:
            for status in [status for status in self._responses if _is_error(status)]:
                self._rewrite(status)
            if "default" not in self._responses:
                for status, description in _OTHERS.items():
                    self._responses.setdefault(status, {"description": description, **self._content()})
        for document in self._documents:
            for error in document.errors:
                self._add(error)
        for document in self._documents:
            for status, response in self._responses.items():
                names = document.headers + (document.error_headers if _is_error(status) else ())
                if "$ref" not in response:
                    self._add_headers(response, names)
        in_order = sorted(self._responses.items(), key=lambda entry: (not entry[0].isdigit(), entry[0]))
        self._fields["responses"] = dict(in_order)

    def _add_parameters(self, parameters: Iterable[tuple[str, str, bool]]) -> None:
        given: list[dict[str, Any]] = self._fields.get("parameters", [])
        for name, description, is_required in parameters:
            present = next((entry for entry in given if str(entry.get("name", "")).lower() == name.lower()), None)
            if present is None:
                schema = {"type": "string", "minLength": 1}
                parameter = {"name": name, "in": "header", "required": is_required, "schema": schema}
                given = self._fields["parameters"] = [*given, {**parameter, "description": description}]
            elif is_required:
                present["required"] = True

    def _rewrite(self, status: str) -> None:
        """Write the body that an error of the document really has."""
        response: dict[str, Any] = self._responses[status]
        if "$ref" in response:  # a response of the document's components, which other operations may share
            response = {"description": response.get("description", "An error.")}
        schemas = [media.get("schema", {}) for media in response.get("content", {}).values()]
        if any(self._errors.is_foreign_envelope(schema) for schema in schemas):
            return  # an error that the app writes in the contract's format, with members of its own, is sent as it is
        is_validation = any(_is_validation(schema) for schema in schemas)
        moved_to = next(
            (document.validation_status for document in self._documents if document.validation_status), None
        )
        if is_validation and moved_to is not None and str(moved_to) != status:
            del self._responses[status]
            status, response = str(moved_to), self._responses.get(str(moved_to), {})
        if not is_validation:
            self._responses[status] = {**response, **self._content()}
            if status.isdigit():
                row = for_status(int(status))
                self._example(self._responses[status], ErrorBody(message=row.message, type=row.type, code=row.code))
            return
        error = ErrorBody(
            message="age: Input should be a valid integer",
            type=for_status(int(status)).type,
            code="validation_error",
            param="age",
        )
        self._responses[status] = {
            "description": response.get("description", HTTPStatus(int(status)).phrase),
            **{name: value for name, value in response.items() if name != "content"},
            **self._content(),
        }
        self._example(self._responses[status], error)

    def _add(self, error: APIError) -> None:
        """Add an error to the response of its status."""
        status = str(error.status)
        if self._dialect is not None:
            described = {"description": HTTPStatus(error.status).phrase}
            response = self._responses.setdefault(status, self._in_dialect(described))
        else:
            response = self._responses.setdefault(status, {"description": HTTPStatus(error.status).phrase})
            if "$ref" in response:
                return
            if not self._rewrites and response.get("content"):
                self._either(response)
            response.setdefault("content", self._content()["content"])
            self._example(response, error.body)
        self._add_headers(response, tuple(error.headers or ()))

    def _either(self, response: dict[str, Any]) -> None:
        """The component sends its own format, and the app another one with the same status."""
        media = response["content"].setdefault("application/json", {})
        reference, given = self._errors.reference(null_param=self._null_param), media.get("schema")
        if given is None:
            media["schema"] = reference
        elif reference not in given.get("anyOf", [given]):
            media["schema"] = {"anyOf": [*given.get("anyOf", [given]), reference]}

    def _content(self) -> dict[str, Any]:
        schema = self._errors.reference(null_param=self._null_param)
        return {"content": {"application/json": {"schema": schema}}}

    def _example(self, response: dict[str, Any], body: ErrorBody) -> None:
        media: dict[str, Any] = response["content"].setdefault("application/json", {})
        media.pop("example", None)
        examples = media.setdefault("examples", {})
        examples.setdefault(str(body.code), {"value": body.as_dict(null_param=self._null_param)})

    def _in_dialect(self, response: Mapping[str, Any]) -> dict[str, Any]:
        """A response in the format of a dialect, whose schema is not known."""
        return {"description": "An error.", **response, "content": {self._dialect: {}}}

    def _add_headers(self, response: dict[str, Any], names: Iterable[str]) -> None:
        headers = response.get("headers", {})
        known = {name.lower() for name in headers}
        added = {name: self._errors.header(name) for name in names if name.lower() not in known}
        if added:
            response["headers"] = {**headers, **added}


def _is_error(status: str) -> bool:
    return status.startswith(("4", "5")) or status == "default"


def _is_validation(schema: Mapping[str, Any]) -> bool:
    """Whether a schema is that of a failed validation: FastAPI's, or Litestar's."""
    if schema.get("$ref") == _VALIDATION:
        return True
    properties: Mapping[str, Any] = schema.get("properties", {})
    return {"status_code", "detail", "extra"} <= properties.keys()
