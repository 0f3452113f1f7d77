"""Conformance checks of what an app gets: its scope, its request body, its task, and scopes that are not requests."""

from __future__ import annotations

import copy

import anyio
from starlette.types import Message, Receive, Scope, Send

from flexmw.kit.exchange import KEY
from flexmw.testing.checks import Headers, Wrap, fine, visited
from flexmw.testing.visit import Visit, http_scope, websocket_scope

__all__ = [
    "cancelled",
    "disconnect",
    "interleaved",
    "lifespan",
    "other_scopes",
    "request_body",
    "same_scope",
    "two_apps",
    "websocket",
]


async def same_scope(wrap: Wrap, headers: Headers) -> list[str]:
    inner: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        inner.append(scope)
        await fine(scope, receive, send)

    scope = http_scope("POST", headers)
    before = copy.deepcopy(scope)
    visit = Visit(scope)
    await visit.run(wrap(app))
    after = {key: value for key, value in scope.items() if key != KEY}
    changed = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    faults = [f"the server's scope was changed: {', '.join(changed)}; hand on a copy"] if changed else []
    for given in inner:
        if missing := sorted(key for key in before if key not in given):
            faults.append(f"the app's scope lacks {', '.join(missing)}")
        elif given["state"] is not scope["state"]:
            faults.append("the app's scope[`state`] is not the one of the lifespan")
    return faults


async def request_body(wrap: Wrap, headers: Headers) -> list[str]:
    read: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            read.append(message.get("body", b""))
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    await visited(wrap, app, headers, "POST", [b"one,", b"two,", b"three"])
    body = b"".join(read)
    return [] if body == b"one,two,three" else [f"the app read {body!r} of the request body b'one,two,three'"]


async def interleaved(wrap: Wrap, headers: Headers) -> list[str]:
    inside = {b"a": anyio.Event(), b"b": anyio.Event()}
    done = anyio.Event()
    statuses = {b"a": 200, b"b": 201}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        me = dict(scope["headers"])[b"x-visit"]
        inside[me].set()
        for event in inside.values():
            await event.wait()
        if me == b"a":
            await done.wait()
        await send({"type": "http.response.start", "status": statuses[me], "headers": [(b"x-visit", me)]})
        await send({"type": "http.response.body", "body": me, "more_body": True})
        await send({"type": "http.response.body", "body": b"."})

    visits = {me: Visit(http_scope(headers=[*headers, (b"x-visit", me)])) for me in inside}
    wrapped = wrap(app)

    async def second() -> None:
        await inside[b"a"].wait()
        await visits[b"b"].run(wrapped)
        done.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(visits[b"a"].run, wrapped)
        tasks.start_soon(second)
    faults: list[str] = []
    for me, visit in visits.items():
        marks = [value for name, value in visit.headers if name == b"x-visit"]
        if (visit.status, marks, visit.body, visit.error) != (statuses[me], [me], me + b".", None):
            faults.append(
                f"of two requests at once, one got {visit.status} {visit.body!r} instead of "
                f"{statuses[me]} {me + b'.'!r} (raised: {visit.error!r}): "
                "keep per-request state in the call, not on self"
            )
    return faults


async def two_apps(wrap: Wrap, headers: Headers) -> list[str]:
    async def other(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"other"})

    first = wrap(fine)
    wrap(other)
    visit = Visit(http_scope(headers=headers))
    await visit.run(first)
    return [] if visit.body == b"fine" else ["an app that is wrapped later takes the place of the first one"]


async def cancelled(wrap: Wrap, headers: Headers) -> list[str]:
    inside, seen, outcome = anyio.Event(), list[str](), list[str]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            inside.set()
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            seen.append("app")
            raise

    visit = Visit(http_scope(headers=headers))

    async def serve() -> None:
        await visit.run(wrap(app))
        outcome.append("returned" if visit.error is None else f"raised {visit.error!r}")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        await inside.wait()
        tasks.cancel_scope.cancel()
    faults = [] if seen else ["the cancellation of the task did not reach the app"]
    if outcome:
        faults.append(f"the cancellation was swallowed: the call {outcome[0]}")
    if visit.sent:
        faults.append(f"{visit.sent[0]['type']} was sent after the cancellation")
    return faults


async def disconnect(wrap: Wrap, headers: Headers) -> list[str]:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        seen.append((await receive())["type"])

    visit = Visit(http_scope(headers=headers))
    visit.leave()
    await visit.run(wrap(app))
    return [] if seen == ["http.disconnect"] else [f"the app received {seen} when its client had left"]


async def lifespan(wrap: Wrap, headers: Headers) -> list[str]:
    received: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for stage in ("startup", "shutdown"):
            received.append((await receive())["type"])
            await send({"type": f"lifespan.{stage}.complete"})

    scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
    before = copy.deepcopy(scope)
    visit = Visit(scope, [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    await visit.run(wrap(app))
    sent = [message["type"] for message in visit.sent]
    faults: list[str] = []
    if received != ["lifespan.startup", "lifespan.shutdown"] or sent != [f"{kind}.complete" for kind in received]:
        faults.append(f"the app received {received} and the server {sent} (raised: {visit.error!r}); pass lifespan on")
    if scope != before:
        faults.append("the scope of the lifespan was changed")
    return faults


async def websocket(wrap: Wrap, headers: Headers) -> list[str]:
    received: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        received.append(await receive())
        await send({"type": "websocket.accept", "subprotocol": "chat"})
        received.append(await receive())
        await send({"type": "websocket.send", "text": "pong"})
        received.append(await receive())

    incoming: list[Message] = [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "ping"},
        {"type": "websocket.disconnect", "code": 1000},
    ]
    visit = Visit(websocket_scope(headers), incoming)
    await visit.run(wrap(app))
    sent = [{key: value for key, value in message.items() if key != "headers"} for message in visit.sent]
    expected = [
        {"type": "websocket.accept", "subprotocol": "chat"},
        {"type": "websocket.send", "text": "pong"},
    ]
    if received != incoming or sent != expected:
        return [f"the app received {received} and the client {sent} (raised: {visit.error!r})"]
    return []


async def other_scopes(wrap: Wrap, headers: Headers) -> list[str]:
    seen: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(await receive())
        await send({"type": "acme.done"})

    visit = Visit({"type": "acme", "asgi": {"version": "3.0"}}, [{"type": "acme.begin"}])
    await visit.run(wrap(app))
    if not seen or visit.sent != [{"type": "acme.done"}]:
        return [f"a scope of a type that it does not know did not reach the app (raised: {visit.error!r})"]
    return []
