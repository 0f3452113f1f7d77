"""Probes: what a browser sees of an API that admits pages of other origins."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from flexmw.conformance.judges import names_in
from flexmw.conformance.probes.asking import ask, invalid_call, read, unknown_route
from flexmw.conformance.target import Target
from flexmw.conformance.values import Probe, Request, Response, Skipped, Step, Steps, judged, send

__all__ = ["PROBES"]

_FETCH: Final = "WHATWG Fetch section 3.3"
_ALLOW: Final = "access-control-allow-origin"
_SAFE: Final = frozenset({"cache-control", "content-language", "content-length", "content-type", "expires", "pragma"})
_WANTED: Final = ("x-request-id", "retry-after", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")
_PREFLIGHTS: Final = 70


def _admits(target: Target, response: Response) -> bool:
    return response.headers.get(_ALLOW) in ("*", target.origin)


def _preflight(target: Target, **fields: Any) -> Request:
    headers = (
        ("Origin", target.origin),
        ("Access-Control-Request-Method", target.method),
        ("Access-Control-Request-Headers", "authorization,content-type"),
    )
    return Request(method="OPTIONS", path=target.path, headers=headers, key="none", **fields)


def _admitting(target: Target) -> Generator[Step, Any, Response]:
    """The response to the preflight of an API that admits the origin."""
    response = yield from send(_preflight(target))
    if not _admits(target, response):
        raise Skipped(f"admits no pages of {target.origin}: name one that it admits by --origin")
    return response


def preflight(target: Target) -> Steps:
    response = yield from _admitting(target)
    faults: list[str] = []
    if not 200 <= response.status <= 299:
        faults.append(f"the preflight has status {response.status}, not 200 to 299")
    methods = names_in(response.headers.get("access-control-allow-methods", ""))
    if target.method not in ("GET", "POST") and target.method.lower() not in methods and "*" not in methods:
        faults.append(f"Access-Control-Allow-Methods does not name {target.method}")
    fields = names_in(response.headers.get("access-control-allow-headers", ""))
    if "authorization" not in fields:
        faults.append("Access-Control-Allow-Headers does not name authorization ('*' does not cover it)")
    if "content-type" not in fields and "*" not in fields:
        faults.append("Access-Control-Allow-Headers does not name content-type")
    if response.headers[_ALLOW] == "*" and response.headers.get("access-control-allow-credentials") == "true":
        faults.append("Access-Control-Allow-Credentials does not work with Access-Control-Allow-Origin: *")
    return judged(faults)


def _from_page(target: Target) -> tuple[Request, ...]:
    origin = (("Origin", target.origin),)
    requests = [unknown_route(target, headers=origin)]
    if target.takes_body:
        requests.append(invalid_call(target, headers=origin))
    return tuple(requests)


def errors_readable(target: Target) -> Steps:
    yield from _admitting(target)
    faults: list[str] = []
    for request in _from_page(target):
        response = yield from send(request)
        if not _admits(target, response):
            faults.append(f"a page cannot read the {response.status} of {request}: no Access-Control-Allow-Origin")
        elif response.headers[_ALLOW] != "*" and "origin" not in names_in(response.headers.get("vary", "")):
            faults.append(f"the {response.status} of {request} has no Vary: Origin, so a cache may mix up two pages")
    return judged(faults)


def exposed(target: Target) -> Steps:
    yield from _admitting(target)
    request = unknown_route(target, headers=(("Origin", target.origin),))
    response = yield from ask(target, request)
    names = names_in(response.headers.get("access-control-expose-headers", ""))
    hidden = [name for name in _WANTED if name in response.headers and name not in names]
    if "*" in names or not hidden:
        return judged([])
    return judged([f"a page cannot read {', '.join(hidden)}: Access-Control-Expose-Headers does not name them"])


def foreign_origin(target: Target) -> Steps:
    try:
        request = read(target, headers=(("Origin", "https://flexmw-check.invalid"),))
    except Skipped:
        request = unknown_route(target, headers=(("Origin", "https://flexmw-check.invalid"),))
    response = yield from send(request)
    allowed = response.headers.get(_ALLOW)
    credentials = response.headers.get("access-control-allow-credentials") == "true"
    if allowed is None:
        raise Skipped("admits no pages of other origins")
    reflected = allowed in ("https://flexmw-check.invalid", "null")
    return judged(["admits every origin together with its cookies"] if reflected and credentials else [])


def preflights_admitted(target: Target) -> Steps:
    yield from _admitting(target)
    for count in range(1, _PREFLIGHTS + 1):
        response = yield from send(_preflight(target, fresh=True, obey=False))
        if response.status == 429:
            return judged([f"preflight {count} in a row is refused with 429: a page then cannot send anything"])
    return judged([])


PROBES: Final = (
    Probe(
        name="preflight",
        group="cors",
        cost="harmless",
        asks="a preflight for the route with `authorization` and `content-type`: status 200 to 299, both allowed",
        source=_FETCH,
        steps=preflight,
    ),
    Probe(
        name="errors-readable",
        group="cors",
        cost="harmless",
        asks="a 404 and a refused call from a page: both carry `Access-Control-Allow-Origin`",
        source=_FETCH,
        steps=errors_readable,
    ),
    Probe(
        name="exposed",
        group="cors",
        cost="harmless",
        asks="`x-request-id`, `Retry-After` and the limits, where they are sent, are exposed to pages",
        source=f"{_FETCH}.5",
        steps=exposed,
    ),
    Probe(
        name="foreign-origin",
        group="cors",
        cost="harmless",
        asks="a request of an origin that cannot exist: it is not admitted together with cookies",
        source="OWASP WSTG-CLNT-07",
        steps=foreign_origin,
    ),
    Probe(
        name="preflights-admitted",
        group="cors",
        cost="burst",
        asks=f"{_PREFLIGHTS} preflights, which carry no key: none is refused with 429",
        source=_FETCH,
        steps=preflights_admitted,
    ),
)
