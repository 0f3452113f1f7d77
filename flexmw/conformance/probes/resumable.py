"""Probes: streams that can be continued after their connection was cut (docs/streams.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from typing import Any, Final

from flexmw.conformance.judges import envelope_faults, error_code, media_faults, stream_faults
from flexmw.conformance.probes.asking import ask, keyed_call, paid_call, require_llm
from flexmw.conformance.target import Target
from flexmw.conformance.values import Probe, Response, Skipped, Step, Steps, judged, send
from flexmw.contract.idempotent_stream import STREAM, StreamPosition, format_stream, parse_stream

__all__ = ["PROBES"]

_SOURCE: Final = "docs/streams.md; RFC 9651"
_GONE: Final = "idempotency_stream_gone"
_NOT_KNOWN: Final = "does not know the field Idempotent-Stream"
_CUT_AFTER: Final = 100
"""Bytes of the stream that are read before the connection is closed. The prompt asks for more."""


def _unknown(target: Target) -> Generator[Step, Any, Response]:
    field = (STREAM, format_stream("flexmw-check-no-stream", 10))
    response = yield from ask(target, keyed_call(target, "no-stream", headers=(field,)))
    if not (error_code(response) or "").startswith("idempotency_stream"):
        raise Skipped(_NOT_KNOWN)
    return response


def gone(target: Target) -> Steps:
    response = yield from _unknown(target)
    return judged(envelope_faults(response, (410,), code=_GONE))


def malformed(target: Target) -> Steps:
    yield from _unknown(target)
    response = yield from send(keyed_call(target, "bad-stream", headers=((STREAM, "no item of RFC 9651;;"),)))
    return judged(envelope_faults(response, (400,), code="idempotency_stream_invalid"))


def continued(target: Target) -> Steps:
    require_llm(target)
    key = ("Idempotency-Key", f"flexmw-check-{target.nonce}-stream")
    cut = yield from ask(target, paid_call(target, key, read_bytes=_CUT_AFTER, stream=True))
    if cut.status != 200:
        return judged([f"status is {cut.status}, not 200"])
    if STREAM not in cut.headers:
        raise Skipped(_NOT_KNOWN)
    if media_faults(cut, "text/event-stream"):
        raise Skipped("sends no event stream")
    position, faults = _position(cut)
    if position is None:
        return judged(faults)
    start = len(cut.body)
    field = (STREAM, format_stream(position.generation, start))
    rest = yield from send(paid_call(target, key, field, stream=True))
    if rest.status != 200:
        return judged([f"the continuation got {rest.status}: {error_code(rest)}"])
    here, faults = _position(rest)
    if here is not None:
        if here.generation != position.generation or here.start != start:
            faults.append("the continuation has another generation or offset than was asked for")
        if here.digest != hashlib.sha256(cut.body).digest():
            faults.append("sha256 of the continuation is not the digest of the bytes before it")
    return judged(faults + stream_faults(cut.body + rest.body))


def _position(response: Response) -> tuple[StreamPosition | None, list[str]]:
    try:
        return parse_stream([response.headers.get(STREAM, "")]), []
    except ValueError as error:
        return None, [f"Idempotent-Stream of the response is not valid: {error}"]


PROBES: Final = (
    Probe(
        name="gone",
        group="resumable",
        cost="harmless",
        asks="the rest of a stream that never was: 410 `idempotency_stream_gone`, and nothing is executed",
        source=_SOURCE,
        steps=gone,
    ),
    Probe(
        name="malformed",
        group="resumable",
        cost="harmless",
        asks="a field that is no item: 400 `idempotency_stream_invalid`",
        source=_SOURCE,
        steps=malformed,
    ),
    Probe(
        name="continued",
        group="resumable",
        cost="paid",
        asks="a stream whose connection is closed, then its rest: one whole stream, with the digest of the beginning",
        source=_SOURCE,
        steps=continued,
    ),
)
