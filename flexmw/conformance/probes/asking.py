"""Requests that several groups of probes send, and how they ask."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from flexmw.conformance.target import Target
from flexmw.conformance.values import Request, Response, Skipped, Step, send

__all__ = [
    "CONTRACT",
    "MALFORMED",
    "ask",
    "invalid_call",
    "keyed_call",
    "paid_call",
    "read",
    "require_llm",
    "require_route",
    "unknown_route",
]

CONTRACT: Final = "the error contract"
MALFORMED: Final = b'{"model": '
_MISSING: Final = (404, 405)
_NEEDS_KEY: Final = "needs an API key: --key-env NAME"


def ask(target: Target, request: Request) -> Generator[Step, Any, Response]:
    """Send a request with the user's key.

    :raises Skipped: the API asks for a key, and the user has given none; or it does not have the route.
    """
    response = yield from send(request)
    if response.status == 401 and not target.has_key:
        raise Skipped(_NEEDS_KEY)
    if (request.method, request.path) == (target.method, target.path):
        yield from require_route(target, response)
    return response


def require_route(target: Target, response: Response) -> Generator[Step, Any, None]:
    """Skip a probe of a route that the API does not have.

    A 404 may be about the model or the order that the body names. So the route is asked again with a body that names
    nothing.

    :param response: the response of the route to the request of the probe.
    :raises Skipped: the route has status 404 or 405 whatever it is sent.
    """
    if response.status not in _MISSING:
        return
    if target.takes_body:
        response = yield from send(invalid_call(target))
    if response.status in _MISSING:
        option = "a route that reads JSON by --route" if target.is_llm else "another one by --route"
        raise Skipped(f"{target.method} {target.path} is not there ({response.status}): name {option}")


def unknown_route(target: Target, method: str = "GET", **fields: Any) -> Request:
    """A request for a path that no API has."""
    return Request(method=method, path="/flexmw-check/no-such-route", **fields)


def read(target: Target, **fields: Any) -> Request:
    """A GET that succeeds and does no work.

    :raises Skipped: no such path is known.
    """
    if target.read_path is None:
        raise Skipped("no path to read is known: only --route 'GET ...' and LLM routes name one")
    return Request(method="GET", path=target.read_path, **fields)


def invalid_call(target: Target, body: bytes = MALFORMED, **fields: Any) -> Request:
    """A request to the route with a body that no route accepts; the default is JSON that breaks off.

    :raises Skipped: the route reads no body.
    """
    if not target.takes_body:
        raise Skipped(f"{target.method} {target.path} reads no body: name another one by --route")
    return Request(method=target.method, path=target.path, body=body, **fields)


def keyed_call(target: Target, suffix: str, **fields: Any) -> Request:
    """An invalid call with an idempotency key."""
    headers = (("Idempotency-Key", f"flexmw-check-{target.nonce}-{suffix}"), *fields.pop("headers", ()))
    body = target.call_of_no_model() if target.is_llm else MALFORMED
    return invalid_call(target, body, headers=headers, **fields)


def paid_call(target: Target, *headers: tuple[str, str], read_bytes: int | None = None, **fields: Any) -> Request:
    """A valid call, never shared with another probe."""
    if not target.takes_body:
        raise Skipped(f"{target.method} {target.path} reads no body: name another one by --route")
    body = target.call(**fields)
    return Request(
        method=target.method, path=target.path, headers=headers, body=body, read_bytes=read_bytes, fresh=True
    )


def require_llm(target: Target) -> None:
    """Skip a probe that only OpenAI's chat completions can be asked.

    :raises Skipped: the user has named another route.
    """
    if not target.is_llm:
        raise Skipped("only for POST /chat/completions")
