"""Probes: bodies and URLs that are large, deep or sent in chunks."""

from __future__ import annotations

from typing import Final

from flexmw.conformance.judges import envelope_faults
from flexmw.conformance.probes.asking import MALFORMED, ask, invalid_call, unknown_route
from flexmw.conformance.target import Target
from flexmw.conformance.values import Probe, Skipped, Steps, judged

__all__ = ["PROBES"]

_MEBIBYTE: Final = 1024 * 1024
_TEBIBYTE: Final = 1024**4
_DEPTH: Final = 50_000
_QUERY: Final = "q=" + "x" * 7_000
_REFUSED: Final = (400, 413, 422)
_INVALID: Final = "invalid_request_error"


def mebibyte(target: Target) -> Steps:
    response = yield from ask(target, invalid_call(target, MALFORMED + b'"' + b"x" * _MEBIBYTE))
    return judged(envelope_faults(response, _REFUSED))


def deep(target: Target) -> Steps:
    response = yield from ask(target, invalid_call(target, b"[" * _DEPTH))
    return judged(envelope_faults(response, _REFUSED))


def chunked(target: Target) -> Steps:
    response = yield from ask(target, invalid_call(target, chunked=True))
    return judged(envelope_faults(response, (400, 411, 422)))


def declared(target: Target) -> Steps:
    response = yield from ask(target, invalid_call(target, declared_bytes=_TEBIBYTE))
    if response.status == 100:
        raise Skipped("reads the body before it judges its length, so that nothing is known of its limit")
    return judged(envelope_faults(response, (*_REFUSED, 417)))


def long_query(target: Target) -> Steps:
    response = yield from ask(target, unknown_route(target, query=_QUERY))
    return judged(envelope_faults(response, (404,), _INVALID))


PROBES: Final = (
    Probe(
        name="mebibyte",
        group="bodies",
        cost="harmless",
        asks="a mebibyte of JSON that breaks off: 400, 413 or 422",
        source="RFC 9110 section 15.5.14",
        steps=mebibyte,
    ),
    Probe(
        name="deep",
        group="bodies",
        cost="harmless",
        asks=f"an array in an array, {_DEPTH:,} deep: 400, 413 or 422, never 500",
        source="RFC 8259 section 9",
        steps=deep,
    ),
    Probe(
        name="chunked",
        group="bodies",
        cost="harmless",
        asks="JSON that breaks off, sent in chunks: 400, 411 or 422",
        source="RFC 9112 section 7.1",
        steps=chunked,
    ),
    Probe(
        name="declared",
        group="bodies",
        cost="harmless",
        asks="a tebibyte announced with `Expect: 100-continue`, and not sent: refused",
        source="RFC 9110 sections 10.1.1 and 15.5.14",
        steps=declared,
    ),
    Probe(
        name="long-query",
        group="bodies",
        cost="harmless",
        asks="an unknown path with a query of 7,000 bytes: 404 as any other",
        source="RFC 9110 section 4.1",
        steps=long_query,
    ),
)
