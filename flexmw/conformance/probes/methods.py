"""Probes: HEAD, OPTIONS, and methods that a resource does not have."""

from __future__ import annotations

from typing import Final

from flexmw.conformance.judges import envelope_faults, media_faults
from flexmw.conformance.probes.asking import CONTRACT, ask, read, unknown_route
from flexmw.conformance.target import MODELS, Target
from flexmw.conformance.values import Probe, Request, Skipped, Steps, judged, send

__all__ = ["PROBES"]


def wrong_method(target: Target) -> Steps:
    request = (
        Request(method="PUT", path=MODELS, body=b"{}")
        if target.is_llm
        else Request(method="PROPFIND", path=target.path)  # WebDAV's: no JSON API has it, so that nothing is changed
    )
    response = yield from ask(target, request)
    faults = envelope_faults(response, (404, 405, 501), "invalid_request_error" if response.status != 501 else None)
    if response.status == 405 and "allow" not in response.headers:
        faults.append("a 405 without Allow")
    return judged(faults)


def head_of_nothing(target: Target) -> Steps:
    get = yield from send(unknown_route(target))
    head = yield from send(unknown_route(target, "HEAD"))
    faults: list[str] = []
    if head.status != get.status:
        faults.append(f"HEAD has status {head.status}, GET has {get.status}")
    if head.status >= 400:
        faults += media_faults(head, "application/json")
    if head.body:
        faults.append(f"the response to HEAD has a body of {len(head.body)} bytes")
    return judged(faults)


def head_like_get(target: Target) -> Steps:
    get = yield from ask(target, read(target))
    if get.status != 200:
        raise Skipped(f"GET {target.read_path} has status {get.status}: there is nothing to compare")
    head = yield from send(Request(method="HEAD", path=target.read_path or "/"))
    faults: list[str] = []
    if head.status != get.status:
        faults.append(f"HEAD has status {head.status}, GET has {get.status}")
    elif head.headers.get("content-type") != get.headers.get("content-type"):
        faults.append("HEAD has another content-type than GET")
    if head.body:
        faults.append(f"the response to HEAD has a body of {len(head.body)} bytes")
    return judged(faults)


def options(target: Target) -> Steps:
    response = yield from ask(target, Request(method="OPTIONS", path=target.path))
    if response.status < 300:
        return judged([] if "allow" in response.headers else ["OPTIONS succeeds without Allow"])
    faults = envelope_faults(response, (404, 405, 501))
    if response.status == 405 and "allow" not in response.headers:
        faults.append("a 405 without Allow")
    return judged(faults)


PROBES: Final = (
    Probe(
        name="wrong-method",
        group="methods",
        cost="harmless",
        asks="a method that the resource does not have: 404, 405 with `Allow`, or 501",
        source=f"{CONTRACT}; RFC 9110 section 15.5.6",
        steps=wrong_method,
    ),
    Probe(
        name="head-of-nothing",
        group="methods",
        cost="harmless",
        asks="HEAD of a path that does not exist: the status of GET, `application/json`, no body",
        source="RFC 9110 section 9.3.2",
        steps=head_of_nothing,
    ),
    Probe(
        name="head-like-get",
        group="methods",
        cost="harmless",
        asks="HEAD of a path that GET reads: the same status and content type, no body",
        source="RFC 9110 sections 9.1 and 9.3.2",
        steps=head_like_get,
    ),
    Probe(
        name="options",
        group="methods",
        cost="harmless",
        asks="OPTIONS of the route: `Allow`, with 200 to 299 or 405",
        source="RFC 9110 section 9.3.7",
        steps=options,
    ),
)
