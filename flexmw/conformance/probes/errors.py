"""Probes: what an API sends for requests that nobody can serve."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from flexmw.conformance.judges import envelope_faults
from flexmw.conformance.probes.asking import (
    CONTRACT,
    MALFORMED,
    ask,
    invalid_call,
    require_llm,
    require_route,
    unknown_route,
)
from flexmw.conformance.target import NO_MODEL, Target
from flexmw.conformance.values import Probe, Request, Skipped, Steps, judged, send

__all__ = ["PROBES", "WRONG_KEY"]

WRONG_KEY: Final = "sk-flexmw-check-not-a-key"
_INVALID: Final = "invalid_request_error"
_BODY_FIRST: Final = (400, 404, 415, 422)
"""Statuses of an API that asks for no key, or looks at the route and the body before it looks at the key."""


def _bad_key(target: Target, request: Request) -> Steps:
    """Judge the response to a call that shows no valid key."""
    response = yield from send(request)
    yield from require_route(target, response)
    if response.status < 300 and not target.has_key:
        raise Skipped("asks for no key")
    asks_for_keys = request.key == "wrong" and (yield from send(replace(request, key="none"))).status == 401
    if response.status in _BODY_FIRST and not asks_for_keys:
        if faults := envelope_faults(response, (response.status,)):
            return judged(faults)
        raise Skipped("asks for no key, or looks at the route or the body first")
    faults = envelope_faults(response, (401,), "authentication_error", "invalid_api_key")
    shown = response.body + "".join(response.headers.values()).encode("latin-1", "replace")
    if WRONG_KEY.encode() in shown:
        faults.append("the response repeats the key that was sent")
    return judged(faults)


def no_key(target: Target) -> Steps:
    return _bad_key(target, Request(method=target.method, path=target.path, body=_body(target), key="none"))


def wrong_key(target: Target) -> Steps:
    return _bad_key(target, Request(method=target.method, path=target.path, body=_body(target), key="wrong"))


def _body(target: Target) -> bytes | None:
    """A body for which no API does any work."""
    if not target.takes_body:
        return None
    return target.call_of_no_model() if target.is_llm else MALFORMED


def unknown_path(target: Target) -> Steps:
    response = yield from send(unknown_route(target))
    if response.status == 401:
        return judged(envelope_faults(response, (401,), "authentication_error"))
    return judged(envelope_faults(response, (404,), _INVALID))


def malformed_json(target: Target) -> Steps:
    response = yield from ask(target, invalid_call(target))
    return judged(envelope_faults(response, (400, 422), _INVALID))


def no_object(target: Target) -> Steps:
    response = yield from ask(target, invalid_call(target, b'"text"'))
    return judged(envelope_faults(response, (400, 422), _INVALID))


def no_utf8(target: Target) -> Steps:
    response = yield from ask(target, invalid_call(target, b'{"model": "\xff\xfe'))
    return judged(envelope_faults(response, (400, 422), _INVALID))


def no_json(target: Target) -> Steps:
    response = yield from ask(target, invalid_call(target, b"model=a", media_type="text/plain"))
    return judged(envelope_faults(response, (400, 415, 422), _INVALID))


def empty_body(target: Target) -> Steps:
    require_llm(target)
    response = yield from ask(target, invalid_call(target, b""))
    return judged(envelope_faults(response, (400, 422), _INVALID))


def missing_field(target: Target) -> Steps:
    require_llm(target)
    response = yield from ask(target, invalid_call(target, b'{"model": "' + NO_MODEL.encode() + b'"}'))
    return judged(envelope_faults(response, (400, 422), _INVALID))


def unknown_model(target: Target) -> Steps:
    require_llm(target)
    response = yield from ask(target, invalid_call(target, target.call_of_no_model()))
    return judged(envelope_faults(response, (400, 404), _INVALID, "model_not_found"))


PROBES: Final = tuple(
    Probe(name=name, group="errors", cost="harmless", asks=asks, source=source, steps=steps)
    for name, asks, source, steps in (
        ("no-key", "a call without a key: 401 `invalid_api_key`", CONTRACT, no_key),
        (
            "wrong-key",
            "a call with a key that nobody has: 401 `invalid_api_key`, without the key in it",
            CONTRACT,
            wrong_key,
        ),
        ("unknown-route", "a path that does not exist: 404 `invalid_request_error`", CONTRACT, unknown_path),
        ("malformed-json", "JSON that breaks off: 400 or 422", CONTRACT, malformed_json),
        ("no-object", "a JSON text where an object is expected: 400 or 422", CONTRACT, no_object),
        ("no-utf8", "bytes that are not UTF-8: 400 or 422, never 500", "RFC 8259 section 8.1", no_utf8),
        ("no-json", "a body of `text/plain`: 400, 415 or 422", "RFC 9110 section 15.5.16", no_json),
        ("empty-body", "a call with an empty body: 400 or 422", CONTRACT, empty_body),
        ("missing-field", "a chat completion without `messages`: 400 or 422", CONTRACT, missing_field),
        ("unknown-model", "a model that does not exist: 400 or 404 `model_not_found`", CONTRACT, unknown_model),
    )
)
