"""Probes: rate limits, and whether a caller can obey them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from flexmw.conformance.judges import envelope_faults, limit_faults, refusal_faults
from flexmw.conformance.probes.asking import ask, read, unknown_route
from flexmw.conformance.target import Target
from flexmw.conformance.values import Probe, Request, Response, Skipped, Step, Steps, Verdict, judged, send, wait
from flexmw.contract import wait_of

__all__ = ["PROBES"]


def headers(target: Target) -> Steps:
    response = yield from ask(target, _admitted(target))
    faults = limit_faults(response.headers, now=response.seconds)
    if faults is None:
        raise Skipped("an admitted request shows no limits")
    return judged(faults)


def _admitted(target: Target) -> Request:
    return unknown_route(target) if target.read_path is None else read(target)


def _first_refusal(target: Target) -> Generator[Step, Any, Response]:
    """Send requests until one is refused."""
    for _ in range(target.burst):
        response = yield from send(unknown_route(target, fresh=True, obey=False))
        if response.status == 429:
            return response
    raise Skipped(f"{target.burst} requests in a row were not limited")


def refused(target: Target) -> Steps:
    response = yield from _first_refusal(target)
    faults = envelope_faults(response, (429,), "rate_limit_error", "rate_limit_exceeded")
    return judged(faults + refusal_faults(response.headers, now=response.seconds))


def obeyed(target: Target) -> Steps:
    response = yield from _first_refusal(target)
    named = wait_of(response.headers, now=response.seconds)
    if named is None:
        return Verdict("failed", ("a 429 that names no time to wait",))
    if named.seconds > target.patience:
        raise Skipped(f"the 429 asks for {named.seconds:g} s, more than --patience {target.patience:g}")
    yield from wait(named.seconds)
    again = yield from send(unknown_route(target, fresh=True, obey=False))
    if again.status == 429:
        return judged([f"refused again after the {named.seconds:g} s that {named.source} asked for"])
    return judged([])


PROBES: Final = (
    Probe(
        name="headers",
        group="limits",
        cost="harmless",
        asks="one request: limit, remaining and reset are there, readable, and agree",
        source="the error contract; draft-ietf-httpapi-ratelimit-headers-10",
        steps=headers,
    ),
    Probe(
        name="refused",
        group="limits",
        cost="burst",
        asks="requests until one is refused: 429 `rate_limit_exceeded` with its four headers, which agree",
        source="the error contract; RFC 6585 section 4",
        steps=refused,
    ),
    Probe(
        name="obeyed",
        group="limits",
        cost="burst",
        asks="waits as long as the 429 says, and asks again: not refused",
        source="RFC 9110 section 10.2.3",
        steps=obeyed,
    ),
)
