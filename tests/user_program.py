"""What a typed application writes. It is not run: mypy and pyright read it, both strict (``tox run -e types``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar, assert_type

import httpx
import httpx2
from fastapi import FastAPI
from litestar import Litestar
from quart import Quart
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

import flexmw
from flexmw.testing import check_app, check_flow, play


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """A component of somebody else's."""

    name: ClassVar[str] = "acme.stamp"
    api: ClassVar[int] = 1
    order: ClassVar[flexmw.Order] = flexmw.Order(after=("envelope",))

    by: str = "acme"

    def asgi(self, app: ASGIApp) -> ASGIApp:
        async def stamped(scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, send)

        return stamped

    def flow(self, request: flexmw.Request) -> flexmw.Flow:
        request.headers["x-asked-by"] = self.by
        return (yield from flexmw.send(request))


class Typed:
    """A flow whose results are typed without an annotation."""

    name, api, order = "acme.typed", 1, flexmw.Order()

    def flow(self, request: flexmw.Request) -> flexmw.Flow:
        response = yield from flexmw.send(request, lambda event, details: None)
        assert_type(response, flexmw.Response)
        body = yield from flexmw.read(response, 65536)
        assert_type(body, bytes | None)
        assert_type((yield from flexmw.replace(response, body or b"")), flexmw.Response)
        assert_type((yield from flexmw.follow(response, lambda error: None, lambda piece: None)), flexmw.Response)
        assert_type((yield from flexmw.run_blocking(self.count)), int)
        yield from flexmw.emit("acme.counted", {"count": 1})
        yield from flexmw.sleep(1.0)
        yield from flexmw.discard(response, seconds=0.5)
        return (yield from self.again(request))

    def by_itself(self, request: flexmw.Request, kept: flexmw.Response) -> flexmw.Flow:
        yield from flexmw.sleep(0.0)
        return flexmw.build_response(request, 203, headers=kept.headers, body=b"kept")

    def again(self, request: flexmw.Request) -> Generator[flexmw.Effect, Any, flexmw.Response]:
        return (yield from flexmw.send(request))

    def count(self) -> int:
        return 1


class ByClass:
    """The classes of the effects go on working; their results are annotated by hand."""

    name, api, order = "acme.class", 1, flexmw.Order()

    def flow(self, request: flexmw.Request) -> flexmw.Flow:
        response: flexmw.Response = yield flexmw.Send(request)
        return response


async def rates(caller: str) -> list[str]:
    return ["10/minute"]


host = Starlette()
host.add_middleware(flexmw.Envelope().asgi)
host.add_middleware(flexmw.RateLimit("10/minute"))
shop = FastAPI()
shop = flexmw.install(shop, flexmw.Tagging(), flexmw.Envelope(), flexmw.RateLimit("10/minute"), "idempotency")
assert_type(shop, FastAPI)
document: dict[str, Any] = flexmw.openapi(shop, serve=True)
assert_type(flexmw.Stack("envelope").install(Litestar([])), Litestar)
litestar = Litestar([], middleware=[flexmw.RateLimit("10/minute")])
quart = Quart("shop")
quart.asgi_app = flexmw.Envelope()(quart.asgi_app)  # type: ignore[method-assign, assignment]
served: list[ASGIApp] = [flexmw.wrap_app(each) for each in (shop, litestar, quart)]
served.append(flexmw.wrap_app(Litestar([])))
served.append(flexmw.wrap_app(Quart("shop")))
cors = flexmw.adopt(CORSMiddleware, allow_origins=["*"])
named = dataclasses.replace(cors, name="cors", order=flexmw.Order(after=("envelope",)))
app: ASGIApp = flexmw.wrap_app(
    host,
    flexmw.Tagging(),
    flexmw.Envelope(passthrough=("/internal/",), unless=lambda scope, status: status == 418),
    cors,
    named,
    Stamp(by="us"),
    "ratelimit",
    flexmw.RateLimit(limit=rates, headers=("seed", "ietf"), exempt=["/health"], cost=lambda scope: 2),
    flexmw.Idempotency(required=lambda scope: scope["path"] == "/charges"),
)
stack = flexmw.Stack("envelope", cors, Stamp())
ordered = flexmw.Stack(*flexmw.sort([Stamp(), cors, flexmw.Envelope()]))
names: list[str] = [each.name for each in flexmw.sort([Stamp(), flexmw.component("envelope")])]

blocking: httpx2.Client = flexmw.wrap_client(httpx2.Client(), flexmw.Tagging(), flexmw.Retry(), flexmw.Pace(), Stamp())
typed = flexmw.wrap_client(httpx2.AsyncClient(), Typed(), ByClass())
waiting: httpx.AsyncClient = stack.wrap_client(httpx.AsyncClient())
built = httpx.Client(transport=flexmw.httpx.Transport(flexmw.Retry(), transport=httpx.HTTPTransport()))

with flexmw.retry_options(idempotent=True, attempts=5):
    outcome: flexmw.Outcome = blocking.get("https://api.example.com").extensions["flexmw"]
error: flexmw.APIError = flexmw.error_from(built.get("https://api.example.com"))

check_app(Stamp())
check_flow(Stamp())
count: int = play(flexmw.Retry(), [503, 200], httpx.Request("GET", "https://api.example.com")).count(flexmw.Send)
