"""Error body parsing: what the error response of an app states, and the error of the contract that it becomes. Pure.

The formats of bodies are in :mod:`flexmw.contract.body_formats`.

>>> found = read_response([(b"content-type", b"application/json")], b'{"detail": "No such cat."}', 404).found
>>> complete(found, 404).as_dict()
{'error': {'message': 'No such cat.', 'type': 'invalid_request_error', 'code': 'not_found'}}
>>> says_nothing(read_error(None, "Not Found", 404))
True
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from flexmw.contract.body_formats import FOREIGN, TAKEN, Found, of_text, recognise, siblings
from flexmw.contract.content import decompress, parse, value_of
from flexmw.contract.error import ErrorBody
from flexmw.contract.members import other_members
from flexmw.contract.partial import PartialError
from flexmw.contract.protocols import media_type_names_protocol, text_names_protocol
from flexmw.contract.redact import redact
from flexmw.contract.table import OWN, for_status
from flexmw.contract.text import contains_text_of, object_in, one_line
from flexmw.contract.validation import validation

__all__ = [
    "FOREIGN",
    "Found",
    "PartialError",
    "complete",
    "in_own_words",
    "is_bare",
    "is_envelope",
    "is_own_message",
    "of_text",
    "read_error",
    "read_response",
    "recognise",
    "says_nothing",
    "validation",
]

_PLAIN_BYTES: Final = 1024 * 1024
"""Bytes of a compressed body that are read by default."""


def is_envelope(value: object) -> bool:
    """True if a JSON value is an error of the contract already, and safe to send as it is."""
    body = ErrorBody.from_json(value)
    if body is None or "None" in (body.code, body.type, body.param):
        return False
    return redact(body.message, limit=len(body.message)) == body.message


@dataclass(frozen=True, slots=True)
class ReadBody:
    """The body of an error response, decoded.

    :param value: the JSON value; ``None`` if the body is not JSON.
    :param text: the body as text.
    :param found: what the body states.
    """

    value: object
    text: str
    found: Found


def read_response(
    headers: Iterable[tuple[bytes, bytes]], body: bytes | None, status: int, *, max_plain: int = _PLAIN_BYTES
) -> ReadBody:
    """Read the body of an error response, whatever its coding, charset and format.

    :param body: ``None`` if the body is longer than may be read.
    :param max_plain: bytes that a compressed body may have when it is decompressed.
    """
    headers = list(headers)
    content_type = value_of(headers, b"content-type").lower()
    plain = None
    if body is not None:
        plain = decompress(body, value_of(headers, b"content-encoding").strip().lower(), max_plain)
    value, text = parse(plain or b"", content_type)
    if media_type_names_protocol(content_type) or any(name.lower() == b"odata-version" for name, _ in headers):
        return ReadBody(value, text, FOREIGN)
    return ReadBody(value, text, read_error(value, text, status))


def read_error(value: object, text: str, status: int) -> Found:
    """What a body states, as :func:`flexmw.contract.content.parse` has decoded it.

    A JSON string is a text. An object of an unknown shape states no field of the contract; below 500 its members are
    kept, because they are the app's own words.

    :param value: the JSON value; ``None`` if the body is not JSON.
    :param text: the body as text.
    """
    if value is None:
        return FOREIGN if text_names_protocol(text) else of_text(text, status)
    if isinstance(value, str):
        return of_text(value, status)
    found = recognise(value, status)
    members = object_in(value)
    if found is None and status < 500 and members:
        error = object_in(members.get("error"))
        return PartialError(
            members=other_members(error or members, taken=TAKEN), siblings=siblings(members) if error else {}
        )
    if status >= 500 and isinstance(found, PartialError) and not object_in(members.get("error")):
        # What a framework writes beside the text of a crash, such as Litestar's `extra`, may describe the crash.
        return replace(found, members={})
    return found


def in_own_words(error: ErrorBody, own: ErrorBody, found: Found, status: int) -> ErrorBody:
    """An error that the app has made, with the words of the app's own response to it.

    An error handler may respond to the error with another text, code or further members. Below 500 they stay. A
    framework that has no handler responds with the error's own message.

    :param error: the error to send.
    :param own: the same error as the app made it.
    :param found: what the response of the app states.
    :param status: the status of that response.
    """
    if status >= 500 or not isinstance(found, PartialError):
        return error
    other_text = found.message is not None and found.message != one_line(own.message)
    return replace(
        error,
        message=found.message if found.message and other_text else error.message,
        type=found.type or error.type,
        code=found.code or error.code,
        param=found.param or error.param,
        doc_url=found.doc_url or error.doc_url,
        members=found.members,
        siblings=found.siblings,
        placeholders=None if other_text else error.placeholders,
    )


def says_nothing(found: Found) -> bool:
    """True if a body states no more than the status does."""
    return found is None or found == PartialError()


def is_bare(headers: Iterable[tuple[bytes, bytes]], body: bytes, error: BaseException | None = None) -> bool:
    """True if the body of a 500 states no more than the status does, or repeats the text of ``error``.

    Frameworks respond to a crash with such a body and raise the crash, which then decides what the error is.

    :param headers: the response's headers.
    :param error: the exception that the app has raised.
    """
    read = read_response(headers, body, 500)
    if is_envelope(read.value):
        return False
    found = read.found
    return says_nothing(found) or (isinstance(found, PartialError) and contains_text_of(error, found.message))


def complete(partial: PartialError | None, status: int) -> ErrorBody:
    """Fill the fields that a body does not state from the status."""
    row = for_status(status)
    partial = partial or PartialError()
    code = None if partial.code == "validation_error" and status not in (400, 422) else partial.code
    return ErrorBody(
        message=partial.message or row.message,
        type=partial.type or row.type,
        code=code or row.code,
        param=partial.param,
        doc_url=partial.doc_url,
        members=partial.members,
        siblings=partial.siblings,
        placeholders={} if not partial.message or is_own_message(partial) else None,
    )


def is_own_message(partial: PartialError) -> bool:
    """True if a message is one of flexmw's own, and not one that the body states."""
    row = OWN.get(partial.code or "")
    return row is not None and row.message == partial.message
