"""Probes: idempotency keys, where an API offers them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flexmw.conformance.judges import envelope_faults, error_code
from flexmw.conformance.probes.asking import ask, invalid_call, keyed_call, paid_call
from flexmw.conformance.target import Target
from flexmw.conformance.values import Cost, Probe, Response, Skipped, Steps, Verdict, judged, send, send_together, wait
from flexmw.contract import wait_of

__all__ = ["PROBES"]

_DRAFT: Final = "draft-ietf-httpapi-idempotency-key-header-07"
_OFFERS_NONE: Final = "offers no idempotency keys: no Idempotency-Key-TTL, no Idempotent-Replayed"
_ROUNDS: Final = 20
"""How often a request that is still in progress is sent again."""


def _offers_keys(response: Response) -> bool:
    """Whether a response to a keyed request says that keys are honoured."""
    headers = response.headers
    return "idempotency-key-ttl" in headers or "idempotent-replayed" in headers


def malformed(target: Target) -> Steps:
    first = yield from ask(target, keyed_call(target, "first"))
    if not _offers_keys(first):
        raise Skipped(_OFFERS_NONE)
    response = yield from send(keyed_call(target, "long" + "x" * 300))
    return judged(envelope_faults(response, (400,), code="idempotency_key_invalid"))


def executed_once(target: Target) -> Steps:
    key = ("Idempotency-Key", f"flexmw-check-{target.nonce}-paid")
    call = paid_call(target, key)
    responses = yield from send_together(call, call)
    bodies: list[bytes] = []
    for response in responses:
        current = response
        for _ in range(_ROUNDS):
            if current.status != 409 or error_code(current) != "idempotency_in_progress":
                break
            named = wait_of(current.headers, now=current.seconds)
            if named is None:
                return Verdict("failed", ("a 409 idempotency_in_progress without Retry-After",))
            yield from wait(named.seconds)
            current = yield from send(call)
        if current.status >= 400:
            return Verdict("failed", (f"a valid call got {current.status}",))
        bodies.append(current.body)
    if not any(map(_offers_keys, responses)):
        raise Skipped(_OFFERS_NONE)
    return judged([] if bodies[0] == bodies[1] else ["two calls with one key at the same moment got two results"])


def reused(target: Target) -> Steps:
    key = ("Idempotency-Key", f"flexmw-check-{target.nonce}-reused")
    first = yield from ask(target, paid_call(target, key))
    if first.status >= 400:
        return Verdict("failed", (f"a valid call got {first.status}",))
    if not _offers_keys(first):
        raise Skipped(_OFFERS_NONE)
    response = yield from send(invalid_call(target, headers=(key,)))
    return judged(envelope_faults(response, (422,), code="idempotency_key_reused"))


_TABLE: Final[tuple[tuple[str, Cost, str, Callable[[Target], Steps]], ...]] = (
    ("malformed", "harmless", "a key of 300 characters: 400 `idempotency_key_invalid`", malformed),
    ("executed-once", "paid", "two calls with one key at the same moment: one result", executed_once),
    ("reused", "paid", "a call, then its key with another body: 422 `idempotency_key_reused`", reused),
)

PROBES: Final = tuple(
    Probe(name=name, group="idempotency", cost=cost, asks=asks, source=_DRAFT, steps=steps)
    for name, cost, asks, steps in _TABLE
)
