"""Probes: event streams of chat completions."""

from __future__ import annotations

from typing import Final

from flexmw.conformance.judges import envelope_faults, media_faults, stream_faults
from flexmw.conformance.probes.asking import ask, invalid_call, paid_call, require_llm
from flexmw.conformance.target import Target
from flexmw.conformance.values import Probe, Steps, Verdict, judged

__all__ = ["PROBES"]

_OPENAI: Final = "OpenAI's API reference, Chat completions: streaming"


def error_before(target: Target) -> Steps:
    require_llm(target)
    response = yield from ask(target, invalid_call(target, target.call_of_no_model(stream=True)))
    return judged(envelope_faults(response, (400, 404), "invalid_request_error"))


def whole(target: Target) -> Steps:
    require_llm(target)
    options = {"include_usage": True}
    response = yield from ask(target, paid_call(target, stream=True, stream_options=options))
    if response.status != 200:
        return Verdict("failed", (f"status is {response.status}, not 200",))
    faults = media_faults(response, "text/event-stream")
    return judged(faults + stream_faults(response.body, with_usage=True))


PROBES: Final = (
    Probe(
        name="error-before",
        group="streams",
        cost="harmless",
        asks="a stream of a model that does not exist: the error has its status and is JSON, not an event",
        source="the error contract; RFC 9110 section 15",
        steps=error_before,
    ),
    Probe(
        name="whole",
        group="streams",
        cost="paid",
        asks="a stream with `include_usage`: events of JSON, one with usage, then `[DONE]`",
        source=f"{_OPENAI}; WHATWG HTML section 9.2",
        steps=whole,
    ),
)
