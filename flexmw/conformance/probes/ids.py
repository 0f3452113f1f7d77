"""Probes: the ids by which a caller names a failed request to support."""

from __future__ import annotations

from typing import Final

from flexmw.conformance.judges import request_id
from flexmw.conformance.probes.asking import ask, invalid_call, unknown_route
from flexmw.conformance.target import Target
from flexmw.conformance.values import Probe, Steps, judged, send

__all__ = ["PROBES"]

_SOURCE: Final = "OpenAI's API reference, Debugging requests"


def on_errors(target: Target) -> Steps:
    response = yield from send(unknown_route(target))
    faults = [] if request_id(response) else [f"the {response.status} has no x-request-id"]
    if target.takes_body:
        response = yield from send(invalid_call(target))
        faults += [] if request_id(response) else [f"the {response.status} has no x-request-id"]
    return judged(faults)


def differ(target: Target) -> Steps:
    first = yield from ask(target, unknown_route(target))
    second = yield from ask(target, unknown_route(target, "HEAD"))
    one, other = request_id(first), request_id(second)
    if not one or not other:
        return judged([f"the {(second if one else first).status} has no x-request-id"])
    return judged(["two responses have the same x-request-id"] if one == other else [])


PROBES: Final = (
    Probe(
        name="on-errors",
        group="ids",
        cost="harmless",
        asks="an unknown path, and JSON that breaks off: both responses have an `x-request-id`",
        source=_SOURCE,
        steps=on_errors,
    ),
    Probe(
        name="differ",
        group="ids",
        cost="harmless",
        asks="two requests: their `x-request-id` differ",
        source=_SOURCE,
        steps=differ,
    ),
)
