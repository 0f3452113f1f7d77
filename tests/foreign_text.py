"""Every pure function that reads foreign text, each called with one text of any length.

A name is the module below ``flexmw`` and the function. A new public function that takes text or headers gets a line in
:data:`READERS`, or a line with a reason in :data:`NOT_FOREIGN`; ``tests/test_growth.py`` names those that have neither.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Final

from flexmw.contract.bodies import (
    complete,
    in_own_words,
    is_bare,
    is_envelope,
    is_own_message,
    read_error,
    read_response,
)
from flexmw.contract.body_formats import of_text, recognise, siblings
from flexmw.contract.coded_stream import chunk_decoder
from flexmw.contract.codings import decode, stable_body
from flexmw.contract.content import decompress, is_event_stream, parse, value_of
from flexmw.contract.credentials import (
    is_lasting_scheme,
    is_signature,
    is_tenant,
    lasting_part,
    shows_caller,
    split_query,
)
from flexmw.contract.dates import http_date, iso_time
from flexmw.contract.error import ErrorBody
from flexmw.contract.error_headers import add_error_headers, add_missing, describes_body
from flexmw.contract.exceptions import map_exception
from flexmw.contract.framework_words import in_contract_words
from flexmw.contract.idempotent_stream import ends_in_blank_line, ends_whole, last_event, parse_stream
from flexmw.contract.limit_headers import read_limits
from flexmw.contract.members import other_members
from flexmw.contract.messages import reword
from flexmw.contract.numbers import decimal, whole_number
from flexmw.contract.partial import PartialError
from flexmw.contract.protocols import media_type_names_protocol, text_names_protocol, value_names_protocol
from flexmw.contract.redact import redact
from flexmw.contract.request_secrets import is_secret_name, remove_secrets, safe_query, secrets_in
from flexmw.contract.resets import latest_reset, reset_of, reset_seconds
from flexmw.contract.sdk import parse_retry_count
from flexmw.contract.stream_framing import EVENTS, LINES, UnitBuffer, framing_of
from flexmw.contract.structured_fields import dictionary, items, parse_item
from flexmw.contract.text import (
    array_in,
    code_in,
    contains_text_of,
    first_of,
    lower,
    message_in,
    object_in,
    one_line,
    param_in,
    slug_in,
    text_in,
)
from flexmw.contract.validation import listing, validation
from flexmw.contract.waits import key_ttl, longest_line, names_wait, wait_of
from flexmw.envelope.core import AppResponse, Rules, decide, fresh_headers
from flexmw.envelope.dialect import OpenAI
from flexmw.idempotency import sdk as sdk_calls
from flexmw.idempotency.caller import CallerNames
from flexmw.idempotency.core import Record
from flexmw.idempotency.key import fingerprint, parse_key
from flexmw.idempotency.stored import is_stored, lasting_headers
from flexmw.kit.caller_names import cookies
from flexmw.kit.forwarded import Proxies
from flexmw.kit.identity import CallerHasher, bearer_token
from flexmw.kit.ids import request_id
from flexmw.kit.path_patterns import PathPattern
from flexmw.pace.buckets import bucket_name, classify, from_key
from flexmw.pace.headers import read_limit, server_time
from flexmw.pace.redis import load
from flexmw.retry.core import is_json, is_signed_once, without_safety
from flexmw.retry.response import decoded, has_whole_body_soon, is_out_of_quota, media_type_of, read_head
from flexmw.tagging.call_body import BodyPrefix, has_readable_body
from flexmw.tagging.core import Vocabulary, exception_attributes, retry_count

__all__ = ["NOT_FOREIGN", "READERS"]

_LIMIT_HEADERS: Final = (
    "ratelimit",
    "ratelimit-policy",
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "anthropic-ratelimit-requests-limit",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset",
    "x-ratelimit-resource",
    "x-ratelimit-bucket",
    "retry-after",
    "retry-after-ms",
    "date",
    "content-type",
    "content-encoding",
    "server",
    "authorization",
)


def _headers(text: str) -> dict[str, str]:
    return dict.fromkeys(_LIMIT_HEADERS, text)


def _lines(text: str) -> list[tuple[bytes, bytes]]:
    """Header lines with the text as a value, as a name, and in many short lines."""
    raw = text.encode("utf-8", "replace")
    many = [(raw[start : start + 16], raw[start : start + 16]) for start in range(0, len(raw), 64)]
    return [(name.encode(), raw) for name in _LIMIT_HEADERS] + [(raw, raw)] + many


def _scope(text: str) -> dict[str, Any]:
    raw = text.encode("utf-8", "replace")
    names = (b"authorization", b"cookie", b"forwarded", b"x-forwarded-for", b"host", b"x-token", b"signature", raw)
    return {
        "type": "http",
        "client": ("10.0.0.1", 1),
        "headers": [(name, raw) for name in names],
        "query_string": raw,
        "path": text,
    }


def _error(text: str) -> ErrorBody:
    return ErrorBody(message=text, type=text, code=text, param=text, members={text: text}, siblings={text: text})


def _value(text: str) -> dict[str, Any]:
    """The text wherever the body of a framework has a text, and as the name of a member."""
    names = ("message", "code", text)
    return {"error": dict.fromkeys(names, text), "detail": [{"loc": [text], "msg": text, "type": text}]}


def _answer(text: str) -> AppResponse:
    return AppResponse(400, ((b"content-type", b"text/plain"), (b"x-name", _raw(text))), _raw(text))


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _json(text: str) -> bytes:
    return b'{"error": {"message": ' + _raw(text) + b"}}"


def _in_pieces(text: str) -> None:
    """An event in small pieces: the search begins where the last one ended."""
    buffer = UnitBuffer(EVENTS)
    for start in range(0, len(text), 16):
        buffer.add(_raw(text[start : start + 16]))


def _coded(text: str) -> None:
    """A compressed body in small pieces."""
    decode, body = chunk_decoder("deflate"), zlib.compress(_raw(text), 1)
    assert decode is not None
    for start in range(0, len(body), 16):
        list(decode(body[start : start + 16]))
    assert chunk_decoder(text) is None


def _prefix(text: str) -> Any:
    prefix = BodyPrefix()
    for start in range(0, len(text), 64):
        prefix.add(_raw(text[start : start + 64]))
    return prefix.error()


_HASHER: Final = CallerHasher()
_CALLERS: Final = CallerNames("flexmw:idempotency", caller=None, hasher=_HASHER)

_GZIP_HEADER: Final = b"\x1f\x8b\x08\x1c" + bytes(6)
"""A gzip header with flags for extra fields, a name and a comment behind it."""

READERS: Final[dict[str, Callable[[str], Any]]] = {
    "contract.bodies.complete": lambda text: complete(PartialError(text, text, text, text, text), 400),
    "contract.bodies.in_own_words": lambda text: in_own_words(_error(text), _error(text), PartialError(text), 400),
    "contract.bodies.is_bare": lambda text: is_bare(_lines(text), _raw(text), ValueError(text)),
    "contract.bodies.is_envelope": lambda text: is_envelope(_value(text)),
    "contract.bodies.is_own_message": lambda text: is_own_message(PartialError(text)),
    "contract.bodies.read_error": lambda text: read_error(_value(text), text, 400),
    "contract.bodies.read_response": lambda text: [
        read_response([(b"content-type", media_type)], body, 400)
        for media_type in (b"application/json", b"text/html", b"text/plain", _raw(text))
        for body in (_raw(text), _json(text))
    ],
    "contract.body_formats.of_text": of_text,
    "contract.body_formats.recognise": lambda text: recognise(_value(text), 400),
    "contract.body_formats.siblings": lambda text: siblings({text: _value(text), "error": text}),
    "contract.coded_stream.chunk_decoder": _coded,
    "contract.codings.decode": lambda text: decode(_raw(text), text, limit=1 << 16),
    "contract.codings.stable_body": lambda text: [
        stable_body(_raw(text), text),
        stable_body(_GZIP_HEADER + _raw(text), f"{text}, gzip"),
    ],
    "contract.content.decompress": lambda text: decompress(_raw(text), text, 1 << 16),
    "contract.content.is_event_stream": lambda text: is_event_stream(_lines(text)),
    "contract.content.parse": lambda text: [parse(_raw(text), kind) for kind in ("application/json; charset=l1", text)],
    "contract.content.value_of": lambda text: value_of(_lines(text), b"x-absent"),
    "contract.credentials.is_lasting_scheme": lambda text: is_lasting_scheme(_raw(text)),
    "contract.credentials.is_signature": is_signature,
    "contract.credentials.is_tenant": is_tenant,
    "contract.credentials.lasting_part": lambda text: [lasting_part(text), lasting_part(f"OAuth {text}")],
    "contract.credentials.shows_caller": shows_caller,
    "contract.credentials.split_query": lambda text: split_query(_raw(text)),
    "contract.dates.http_date": http_date,
    "contract.dates.iso_time": iso_time,
    "contract.error.ErrorBody.as_dict": lambda text: _error(text).as_dict(),
    "contract.error.ErrorBody.decode": lambda text: [ErrorBody.decode(body) for body in (_raw(text), _json(text))],
    "contract.error.ErrorBody.encode": lambda text: _error(text).encode(),
    "contract.error.ErrorBody.from_json": lambda text: ErrorBody.from_json(_value(text)),
    "contract.error_headers.add_error_headers": lambda text: add_error_headers(_lines(text), 429, _error(text)),
    "contract.error_headers.add_missing": lambda text: add_missing(_lines(text), _lines(text)),
    "contract.error_headers.describes_body": lambda text: describes_body(text.encode(), 500),
    "contract.exceptions.map_exception": lambda text: map_exception(ValueError(text)),
    "contract.framework_words.in_contract_words": lambda text: [
        in_contract_words(PartialError(text), status) for status in (400, 404, 405)
    ],
    "contract.idempotent_stream.ends_in_blank_line": lambda text: ends_in_blank_line(_raw(text)),
    "contract.idempotent_stream.ends_whole": lambda text: [ends_whole(_raw(text) + end) for end in (b"", b"\n\n")],
    "contract.idempotent_stream.last_event": lambda text: last_event(_raw(text)),
    "contract.idempotent_stream.parse_stream": lambda text: parse_stream([text]),
    "contract.limit_headers.read_limits": lambda text: read_limits(_headers(text), now=0.0),
    "contract.members.other_members": lambda text: other_members(_value(text)),
    "contract.messages.reword": lambda text: reword(_error(text), {text: text}),
    "contract.numbers.decimal": decimal,
    "contract.numbers.whole_number": whole_number,
    "contract.protocols.media_type_names_protocol": media_type_names_protocol,
    "contract.protocols.text_names_protocol": text_names_protocol,
    "contract.protocols.value_names_protocol": lambda text: value_names_protocol(_value(text)),
    "contract.redact.redact": lambda text: redact(text, limit=len(text)),
    "contract.request_secrets.is_secret_name": is_secret_name,
    "contract.request_secrets.remove_secrets": lambda text: remove_secrets(
        text, ("tok_Q7mZ2LsW9xKpR4vB8nT1", text[:4000])
    ),
    "contract.request_secrets.safe_query": safe_query,
    "contract.request_secrets.secrets_in": lambda text: secrets_in([("cookie", text), ("authorization", text)], text),
    "contract.resets.latest_reset": lambda text: latest_reset(text, now=0.0),
    "contract.resets.reset_of": lambda text: reset_of(text, now=0.0),
    "contract.resets.reset_seconds": lambda text: reset_seconds(text, now=0.0),
    "contract.sdk.parse_retry_count": lambda text: [parse_retry_count(text), parse_retry_count(_raw(text))],
    "contract.structured_fields.dictionary": dictionary,
    "contract.structured_fields.items": lambda text: list(items(text)),
    "contract.structured_fields.parse_item": parse_item,
    "contract.text.array_in": array_in,
    "contract.text.code_in": lambda text: code_in(text, 400),
    "contract.text.contains_text_of": lambda text: contains_text_of(ValueError(text), text),
    "contract.text.first_of": lambda text: first_of(_value(text), ("absent", "message")),
    "contract.text.lower": lower,
    "contract.text.message_in": message_in,
    "contract.text.object_in": object_in,
    "contract.text.one_line": one_line,
    "contract.text.param_in": param_in,
    "contract.text.slug_in": slug_in,
    "contract.text.text_in": text_in,
    "contract.validation.listing": lambda text: listing([text] * 5, 5),
    "contract.validation.validation": lambda text: validation(
        [{"loc": [text] * 3, "msg": text, "type": "value_error", "input": text}]
    ),
    "contract.waits.key_ttl": key_ttl,
    "contract.waits.longest_line": lambda text: longest_line([text, text[1:]], now=0.0, date=text),
    "contract.waits.names_wait": lambda text: names_wait(_headers(text)),
    "contract.waits.wait_of": lambda text: wait_of(_headers(text), now=0.0),
    "envelope.core.decide": lambda text: decide(_answer(text), Rules(max_body=len(text) + 1)),
    "envelope.core.fresh_headers": lambda text: fresh_headers(
        _lines(text), status=400, media_type="application/json", length=2
    ),
    "envelope.dialect.OpenAI.event": lambda text: OpenAI().event(
        _error(text), status=500, path="/responses" + text, last=_raw(text)
    ),
    "envelope.dialect.OpenAI.finished": lambda text: OpenAI().finished(_raw(text)),
    "contract.stream_framing.Framing.cut": lambda text: LINES.cut(bytearray(_raw(text))),
    "contract.stream_framing.UnitBuffer.add": _in_pieces,
    "contract.stream_framing.framing_of": lambda text: framing_of(_lines(text), lines=True),
    "idempotency.caller.CallerNames.shown": lambda text: _CALLERS.shown(_scope(text)),
    "idempotency.core.Record.decode": lambda text: Record.decode(_raw(text) + b"\n"),
    "idempotency.key.fingerprint": lambda text: fingerprint("POST", text, _raw(text), _raw(text), _raw(text)),
    "idempotency.key.parse_key": lambda text: parse_key([_raw(text), _raw(text[:-1])]),
    "idempotency.sdk.decode": lambda text: sdk_calls.decode(_raw(text)),
    "idempotency.stored.is_stored": lambda text: is_stored(503, _lines(text)),
    "idempotency.stored.lasting_headers": lambda text: lasting_headers(_lines(text)),
    "kit.caller_names.cookies": lambda text: cookies(_scope(text)),
    "kit.forwarded.Proxies.client": lambda text: Proxies(1).client(_scope(text)),
    "kit.identity.CallerHasher": lambda text: _HASHER(_scope(f"Bearer {text}")),
    "kit.identity.bearer_token": lambda text: bearer_token(_scope(f"Bearer {text}")),
    "kit.ids.request_id": request_id,
    "kit.path_patterns.PathPattern": lambda text: [
        (pattern.limits("POST", text), pattern.exempts("POST", text))
        for pattern in (PathPattern("/a/*", "paths"), PathPattern("POST /a/{id}/b/{id}/*", "paths"))
    ],
    "pace.buckets.bucket_name": lambda text: bucket_name(_headers(text), classify(text)),
    "pace.buckets.classify": lambda text: classify(text, _raw(text)),
    "pace.buckets.from_key": from_key,
    "pace.headers.read_limit": lambda text: read_limit(_headers(text), 0.0, 0.0),
    "pace.headers.server_time": lambda text: server_time(_headers(text), 0.0, 0.0),
    "pace.redis.load": lambda text: load(_raw(text)),
    "retry.core.is_json": is_json,
    "retry.core.is_signed_once": lambda text: is_signed_once(_headers(text)),
    "retry.core.without_safety": lambda text: without_safety(
        "refused", status=503, media_type=text, server=text, trust="json"
    ),
    "retry.response.decoded": lambda text: decoded(_raw(text), text),
    "retry.response.has_whole_body_soon": lambda text: has_whole_body_soon(_headers(text)),
    "retry.response.is_out_of_quota": lambda text: [
        is_out_of_quota(body, "application/json") for body in (_raw(text), _json(text))
    ],
    "retry.response.media_type_of": lambda text: media_type_of(_headers(text)),
    "retry.response.read_head": lambda text: read_head(429, _headers(text), now=0.0),
    "tagging.call_body.BodyPrefix": _prefix,
    "tagging.call_body.has_readable_body": lambda text: has_readable_body(_headers(text)),
    "tagging.core.Vocabulary": lambda text: Vocabulary(frozenset(), frozenset()).attributes(text, text, text),
    "tagging.core.exception_attributes": lambda text: exception_attributes(ValueError(text), (text[:4000],)),
    "tagging.core.retry_count": retry_count,
}
"""The readers: each takes a text, and puts it wherever the function sees what a caller or an upstream has written."""

_DECIDED: Final = "takes what other functions of the contract have read, and looks at no text"
_OPTIONS: Final = "takes the options of the app"

NOT_FOREIGN: Final[dict[str, str]] = {
    "contract.error_headers.should_retry": _DECIDED,
    "contract.exception_slots.attributes_of": "returns the attributes of an exception as they are",
    "contract.exception_slots.chain_of": "returns exceptions as they are, at most so many",
    "contract.exceptions.stems_from": "compares exceptions by identity",
    "contract.idempotent_stream.format_stream": "writes a name that this side has drawn, or that parse_stream has read",
    "contract.limit_headers.reset_wait": _DECIDED,
    "contract.limit_headers.tightest": _DECIDED,
    "contract.messages.expected": _OPTIONS,
    "contract.messages.key_of": _OPTIONS,
    "contract.quota.render": "writes headers from numbers",
    "contract.structured_fields.format_item": "writes what parse_item can read",
}
"""The public functions that take text, and none that a caller or an upstream has written; with the reason of each."""
