"""Shown: secrets, refused input and texts of exceptions, and whether a body, a span, a log or a store has them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import flexmw
from benchmarks.hostile.app import app as orders
from benchmarks.hostile.servers import store_url
from benchmarks.hostile.table import Findings, Row, Settings
from tests.contract.secret_shapes import REVIEWED, drawn_from
from tests.envelope.test_echo import CRASHES, TEXT, crashing
from tests.tagging.sdk import Signals

__all__ = ["run"]

MARKERS = {
    "bearer": "canary0bearer0value", "query": "canary0query0value", "path": "canary0path0value",
    "key": "canary0key0value", "cookie": "canary0cookie0value", "request": "canary0request0value",
    "set-cookie": "canary0lent0cookie", "response header": "canary0lent0key",
}  # fmt: skip
"""What a keyed request and its response hold, by its place. The body of a response is stored as it is."""


def run(settings: Settings) -> Iterator[Row]:
    """Secrets in bodies and telemetry, input in validation errors, exceptions in 5xx, requests in stores."""
    random = Random(settings.seed)
    for family, shapes in REVIEWED.items():
        findings = Findings()
        for shape in shapes:
            asyncio.run(_secret(findings, *drawn_from(shape, random), shape))
        yield findings.row("shown", f"secrets in a 4xx body, a span, a log: {family}")
    findings = Findings()
    asyncio.run(_validation(findings))
    yield findings.row("shown", "input that validation refuses")
    findings = Findings()
    for shape in CRASHES:
        findings.inputs += 1
        response = asyncio.run(_send(flexmw.wrap_app(crashing(shape), flexmw.Envelope()), "GET", "/"))
        words = response.text.lower()
        findings.check(TEXT[:13].lower() not in words and "corp" not in words, "text of an exception", shape)
    yield findings.row("shown", "texts of exceptions in a 5xx")
    for store in sorted({store for _, store in settings.places}):
        findings = Findings()
        with store_url(store, settings.folder) as url:
            held = asyncio.run(_stored(url))
        for place, marker in MARKERS.items():
            findings.inputs += 1
            findings.check(marker.encode() not in held, "in the clear in the store", place)
        findings.check(b"carried out" in held, "the response is not in the store")
        yield findings.row("shown", f"what a keyed request leaves in {store}")


async def _send(app: Any, method: str, path: str, **options: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        return await client.request(method, path, **options)


async def _secret(findings: Findings, text: str, secrets: list[str], shape: str) -> None:
    """A text with a secret as the body of a 400, and as the text of an exception."""

    async def refuse(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"cannot do it: {text}", 400)

    async def crash(request: Request) -> PlainTextResponse:
        raise RuntimeError(f"cannot do it: {text}")

    findings.inputs += 1
    with Signals() as signals:
        routes = [Route("/refuse", refuse), Route("/crash", crash)]
        tagging = flexmw.Tagging(server_span=True, **signals.options)
        app = flexmw.wrap_app(Starlette(routes=routes), tagging, flexmw.Envelope())
        shown = [(await _send(app, "GET", path)).text for path in ("/refuse", "/crash")]
        for span in signals.spans:
            shown += [str(span.attributes), str(span.status.description)]
            shown += [str(event.attributes) for event in span.events]
        shown += [f"{record.body} {record.attributes}" for record in signals.logs]
    findings.check(sum("cannot do it" in text for text in shown) > 1, "the texts are shown nowhere", shape)
    passed = [secret for secret in secrets if secret in "\n".join(shown)]
    findings.check(not passed, "a secret passes", shape)


async def _validation(findings: Findings) -> None:
    value = "S3CRETINPUT"
    bodies: list[Any] = [
        {"amount": value}, {"amount": 1, value: 1}, {"amount": 1, "side": {"kind": value}}, {"amount": [value]},
        {"amount": 1, "table": {value: "x"}}, {"amount": 1, "table": {"a": value}}, {"amount": 1, "checked": value},
        {"amount": {value: value}}, [value], value, {"amount": 1, "side": {value: 1}}, {"amount": 1, "table": [value]},
    ]  # fmt: skip
    served = flexmw.wrap_app(orders, flexmw.Envelope())
    for content in (*map(json.dumps, bodies), f'{{"amount": {value}', f"\\u00e9{value}"):
        findings.inputs += 1
        headers = {"content-type": "application/json"}
        response = await _send(served, "POST", "/orders", content=content, headers=headers)
        findings.check(value not in response.text and response.status_code in (400, 422), "input repeated", content)
    for path in (f"/status/{value}", f"/stream?parts={value}"):
        findings.inputs += 1
        response = await _send(served, "GET", path)
        findings.check(value not in response.text, "input repeated", path)


async def _stored(url: str) -> bytes:
    """The bytes that a keyed request leaves in a store."""

    async def work(request: Request) -> PlainTextResponse:
        headers = {"x-api-key": MARKERS["response header"], "set-cookie": f"session={MARKERS['set-cookie']}"}
        return PlainTextResponse("carried out", headers=headers)

    app = flexmw.wrap_app(
        Starlette(routes=[Route("/{rest:path}", work, methods=["POST"])]),
        flexmw.Idempotency(storage=url),
    )
    headers = {
        "Authorization": f"Bearer {MARKERS['bearer']}",
        "Idempotency-Key": MARKERS["key"],
        "Cookie": f"sid={MARKERS['cookie']}",
    }
    path = f"/reset/{MARKERS['path']}?token={MARKERS['query']}"
    await _send(app, "POST", path, headers=headers, content=MARKERS["request"])
    if url.startswith("redis"):
        with redis.Redis.from_url(url) as client:
            return b"".join(name + _held(client, name) for name in client.scan_iter())
    file = url.removeprefix("sqlite:///")
    return b"".join(each.read_bytes() for each in sorted(Path(file).parent.glob(f"{Path(file).name}*")))


def _held(client: Any, name: bytes) -> bytes:
    kind = client.type(name)
    if kind == b"hash":
        return b"".join(field + value for field, value in client.hgetall(name).items())
    return bytes(client.get(name) or b"") if kind == b"string" else b""
