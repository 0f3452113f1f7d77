"""Conformance checks of the response: its form, headers, stream, failure and latency."""

from __future__ import annotations

import math
import time
from typing import Any, Final

import anyio
from starlette.types import ASGIApp, Receive, Scope, Send

from flexmw.testing.checks import LATENCY, PATIENCE, Boom, Headers, Wrap, fine, visited
from flexmw.testing.visit import Visit, grammar, http_scope

__all__ = ["header_forms", "latency", "plain", "raise_after", "raise_before", "streaming"]

ROUNDS: Final = 20
"""Measurements of the latency, at most. The first one that is low enough ends the check."""


async def plain(wrap: Wrap, headers: Headers) -> list[str]:
    visit = await visited(wrap, fine, headers)
    faults = list(grammar(visit.sent))
    if visit.starts and not visit.complete:
        faults.append("the response was not completed")
    if (visit.status, visit.body, visit.error) != (200, b"fine", None):
        faults.append(
            f"a plain GET to which the app responds 200 'fine' ended as {visit.status} {visit.body[:200]!r} "
            f"(raised: {visit.error!r}); give it options, or check_app headers=, that let it through"
        )
    return faults


async def header_forms(wrap: Wrap, headers: Headers) -> list[str]:
    forms: dict[str, dict[str, Any]] = {
        "without `headers`": {},
        "with headers as a tuple of lists": {"headers": ([b"set-cookie", b"a=1"], [b"set-cookie", b"b=2"])},
    }
    faults: list[str] = []
    for form, fields in forms.items():
        cookies = [b"a=1", b"b=2"] if fields else []

        async def app(scope: Scope, receive: Receive, send: Send, fields: dict[str, Any] = fields) -> None:
            await send({"type": "http.response.start", "status": 200, **fields})
            await send({"type": "http.response.body"})

        visit = await visited(wrap, app, headers)
        seen = [value for name, value in visit.headers if name == b"set-cookie"]
        if visit.error is not None or visit.status != 200:
            faults.append(f"a start message {form} ended as {visit.status} (raised: {visit.error!r})")
        elif seen != cookies:
            faults.append(f"a start message {form} came out with set-cookie {seen}, not {cookies}")
    return faults


async def streaming(wrap: Wrap, headers: Headers) -> list[str]:
    faults: list[str] = []
    for media, parts in {
        "application/octet-stream": [b"first", b"second", b"third"],
        "text/event-stream": [b"data: 1\n\n", b"data: 2\n\n", b"data: [DONE]\n\n"],
    }.items():
        turn = [anyio.Event() for _ in parts]

        async def app(
            scope: Scope,
            receive: Receive,
            send: Send,
            media: str = media,
            parts: list[bytes] = parts,
            turn: list[anyio.Event] = turn,
        ) -> None:
            start = {"status": 200, "headers": [(b"content-type", media.encode())]}
            await send({"type": "http.response.start", **start})
            for part, go in zip(parts, turn, strict=True):
                await go.wait()
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body"})

        visit = Visit(http_scope(headers=headers))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(visit.run, wrap(app))
            for count, go in enumerate(turn[:-1], 1):
                go.set()
                with anyio.move_on_after(PATIENCE / 5) as waiting:
                    await visit.until(len(b"".join(parts[:count])))
                if waiting.cancelled_caught:
                    faults.append(f"{media}: a part of the body is held back until the next one is there")
                    break
            for go in turn:
                go.set()
        if visit.body != b"".join(parts):
            faults.append(f"{media}: the body came out as {visit.body!r}, not {b''.join(parts)!r}")
    return faults


async def raise_before(wrap: Wrap, headers: Headers) -> list[str]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise Boom("before the start")

    visit = await visited(wrap, app, headers)
    faults = list(grammar(visit.sent))
    if visit.error is None and not visit.starts:
        faults.append("an exception of the app was swallowed, and no response was sent")
    elif visit.starts and not visit.complete:
        faults.append("it began a response to an exception of the app and did not complete it")
    return faults


async def raise_after(wrap: Wrap, headers: Headers) -> list[str]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise Boom("after the start")

    visit = await visited(wrap, app, headers)
    faults = list(grammar(visit.sent))
    if not isinstance(visit.error, Boom):
        faults.append(
            "an exception that the app raised after the start did not reach the server "
            f"(raised: {visit.error!r}): a broken response then looks whole"
        )
    return faults


async def latency(wrap: Wrap, headers: Headers) -> list[str]:
    async def once(app: ASGIApp) -> float:
        visit = Visit(http_scope(headers=headers))
        began = time.perf_counter()
        await visit.run(app)
        return time.perf_counter() - began

    bare = min([await once(fine) for _ in range(3)])
    wrapped = wrap(fine)
    added = math.inf
    for _ in range(ROUNDS):
        added = min(added, await once(wrapped) - bare)
        if added < LATENCY:
            return []
    return [f"every request takes {added * 1e3:.0f} ms longer although nothing else runs"]
