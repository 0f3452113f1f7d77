"""One app with everything that goes wrong, on Starlette and on FastAPI. Each route is named after its failure."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterable, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import fastapi.sse
import httpx
import httpx2
from fastapi import Body, Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.exceptions import WebSocketException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

import flexmw

SECRET = "sk-canary-0123456789abcdef"
ENVELOPE = b'{"error": {"message":"As it came.", "type":"custom_error","param":null,  "code":"custom"}}'
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'


class Order(BaseModel):
    n: int
    api_key: str


def _upstream(status: int, body: Any, **headers: str) -> Exception:
    """What the real SDK raises for an upstream's answer; imported late, for servers in processes of their own."""
    import openai

    answer = httpx2.Response(status, headers=headers, json=body)
    client = openai.OpenAI(
        api_key=SECRET,
        base_url="http://upstream",
        max_retries=0,
        http_client=httpx2.Client(transport=httpx2.MockTransport(lambda request: answer)),
    )
    try:
        client.models.list()
    except openai.APIStatusError as error:
        return error
    raise AssertionError("the upstream was meant to fail")


def raises(make: Callable[[], BaseException]) -> Callable[..., Any]:
    async def endpoint(request: Request) -> Response:
        raise make()

    return endpoint


def answers(make: Callable[[], Response]) -> Callable[..., Any]:
    async def endpoint(request: Request) -> Response:
        await request.body()  # over bytes that nobody has read a server ends the connection with a reset
        return make()

    return endpoint


class Raw(Response):
    """Sends whatever messages it is given, right or wrong."""

    def __init__(self, *messages: dict[str, Any], then: BaseException | None = None) -> None:
        super().__init__()
        self.messages, self.then = messages, then

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for message in self.messages:
            await send(message)
        if self.then is not None:
            raise self.then


def start(status: int, *headers: tuple[str, str], **more: Any) -> dict[str, Any]:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    return {"type": "http.response.start", "status": status, "headers": raw, **more}


def body(data: bytes = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def chunks(*parts: bytes, then: BaseException | None = None) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if then is not None:
        raise then


def sse(*parts: bytes, then: BaseException | None = None, status: int = 200) -> StreamingResponse:
    return StreamingResponse(chunks(*parts, then=then), status, media_type="text/event-stream")


async def read_json(request: Request) -> Response:
    return JSONResponse(await request.json())


async def foreign_json(request: Request) -> Response:
    return JSONResponse(json.loads("{"))


async def in_group(request: Request) -> Response:
    async with asyncio.TaskGroup() as group:
        group.create_task(_missing())
    raise AssertionError


async def _missing() -> None:
    raise StarletteHTTPException(404, "No such row.")


async def timeout(request: Request) -> Response:
    async with asyncio.timeout(0.001):
        await asyncio.sleep(10)
    raise AssertionError


async def endless(request: Request) -> Response:
    async def never() -> AsyncIterator[bytes]:
        yield b'{"detail": "wai'
        await asyncio.sleep(30)

    return StreamingResponse(never(), 503)


async def late_failure() -> None:
    raise ValueError(SECRET)


def in_thread(request: Request) -> Response:
    raise flexmw.InsufficientCredit(headers={"x-credit": "0"})


async def nothing(request: Request) -> Response:
    return Raw()


def _problem() -> Response:
    return JSONResponse(
        {"type": "https://e.example/p", "title": "Sold out", "detail": "No seats left.", "status": 409},
        409,
        media_type="application/problem+json",
    )


HTML = "<!doctype html><title>Bad</title><h1>502 Bad Gateway</h1>nginx"
SHARED: dict[str, Callable[..., Any]] = {
    "read-json": read_json,
    "foreign-json": foreign_json,
    "http-headers": raises(
        lambda: StarletteHTTPException(429, "Slow down, please.", {"Retry-After": "7", "X-Own": "yes"})
    ),
    "dict-detail": raises(
        lambda: StarletteHTTPException(  # type: ignore[arg-type]
            402,
            {"error": {"message": "Top up.", "type": "insufficient_quota", "code": "no_money"}},  # type: ignore[arg-type]
        )
    ),
    "list-detail": raises(lambda: StarletteHTTPException(409, ["first", "second"])),  # type: ignore[arg-type]
    "http-204": raises(lambda: StarletteHTTPException(204)),
    "http-304": raises(lambda: StarletteHTTPException(304)),
    "crash": raises(lambda: ValueError(f"db postgres://u:{SECRET}@h/d")),
    "chunked-crash": answers(lambda: StreamingResponse(chunks(b"half", then=ValueError(SECRET)))),
    "length-crash": answers(lambda: Raw(start(200, ("content-length", "100")), body(b"half", True), then=ValueError())),
    "group": in_group,
    "timeout": timeout,
    "connect": raises(lambda: httpx.ConnectError("cannot reach 10.0.0.7")),
    "read-timeout": raises(lambda: httpx2.ReadTimeout("10.0.0.7 is slow")),
    "upstream-429": raises(
        lambda: _upstream(
            429, {"error": {"message": "TPM reached.", "type": "tokens", "code": "tpm"}}, **{"retry-after": "9"}
        )
    ),
    "upstream-401": raises(lambda: _upstream(401, {"error": {"message": f"bad key {SECRET}"}})),
    "empty": answers(lambda: Response(status_code=503, headers={"Retry-After": "3"})),
    "html": answers(lambda: Response(HTML, 502, media_type="text/html")),
    "text": answers(lambda: PlainTextResponse("The queue is full.\nCome back later.", 503)),
    "gzip": answers(
        lambda: Response(
            gzip.compress(b'{"detail": "Packed."}'),
            400,
            {"content-encoding": "gzip", "content-type": "application/json"},
        )
    ),
    "envelope": answers(lambda: Response(ENVELOPE, 418, {"x-own": "1", "etag": '"v1"'}, media_type="application/json")),
    "error-text": answers(
        lambda: JSONResponse({"error": "Rate limit exceeded: 5 per 1 minute"}, 429, {"x-ratelimit-limit": "5"})
    ),
    "message": answers(lambda: JSONResponse({"message": "No such cat.", "code": "no_cat"}, 404)),
    "flat": answers(
        lambda: JSONResponse(
            {"object": "error", "message": "Too long.", "type": "BadRequestError", "param": "max_tokens", "code": 400},
            400,
        )
    ),
    "google": answers(
        lambda: JSONResponse([{"error": {"code": 400, "message": "Bad field.", "status": "INVALID_ARGUMENT"}}], 400)
    ),
    "field-map": answers(lambda: JSONResponse({"email": ["Enter a valid email."], "age": ["Required."]}, 400)),
    "problem": answers(_problem),
    "int-code": answers(
        lambda: JSONResponse({"error": {"message": "No.", "type": "None", "param": "None", "code": 400}}, 400)
    ),
    "huge": answers(lambda: StreamingResponse(chunks(*[b"x" * 65536] * 128), 400)),
    "streamed-error": answers(lambda: StreamingResponse(chunks(b'{"det', b'ail": "In p', b'arts."}'), 400)),
    "endless": endless,
    "bad-utf8": answers(lambda: Response(b"caf\xff closed", 400, media_type="text/plain")),
    "latin-1": answers(
        lambda: Response("café fermé".encode("latin-1"), 400, {"content-type": "text/plain; charset=latin-1"})
    ),
    "redirect": answers(lambda: Response(status_code=307, headers={"location": "/ok"})),
    "no-content": answers(lambda: Response(status_code=204)),
    "wrong-length": answers(lambda: Raw(start(400, ("content-length", "5")), body(b'{"detail": "Repaired."}'))),
    "start-then-crash": answers(lambda: Raw(start(400), then=ValueError(SECRET))),
    "two-starts": answers(lambda: Raw(start(400), start(200), body(b'{"detail": "The first."}'))),
    "silent": nothing,
    "no-type": answers(lambda: Raw(start(400), body(b'{"detail": "Sniffed."}'))),
    "status-600": answers(lambda: Raw(start(600), body(b"odd"))),
    "twice": answers(
        lambda: Raw(
            start(400, ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("link", "<1>"), ("link", "<2>")), body(b"No.")
        )
    ),
    "stale": answers(
        lambda: Raw(
            start(
                400,
                ("etag", '"x"'),
                ("repr-digest", "sha-256=:x:"),
                ("content-range", "bytes */9"),
                ("accept-ranges", "bytes"),
                ("x-kept", "1"),
            ),
            body(b"No."),
        )
    ),
    "background": answers(lambda: JSONResponse({"detail": "Answered."}, 400, background=BackgroundTask(late_failure))),
    "ok-error": answers(lambda: JSONResponse({"error": {"message": "hm"}})),
    "secret-text": answers(lambda: PlainTextResponse(f"Cannot use {SECRET} at redis://me:hunter22@cache", 400)),
    "secret-500": answers(lambda: JSONResponse({"detail": f"Authorization: Bearer {SECRET}"}, 500)),
    "kind": raises(lambda: flexmw.ModelNotFound("foo", headers={"x-kind": "1"})),
    "kind-500": raises(lambda: flexmw.UpstreamTimeout()),
    "in-thread": in_thread,
    "ok": answers(lambda: JSONResponse({"fine": True})),
    "disconnect": raises(lambda: ClientDisconnect()),
    "rpc": answers(lambda: JSONResponse({"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "No."}}, 404)),
    "graphql": answers(lambda: JSONResponse({"errors": [{"message": "No.", "path": ["a"]}], "data": None}, 400)),
    "oauth": answers(lambda: JSONResponse({"error": "invalid_grant", "error_description": "Expired."}, 400)),
    "hints": answers(
        lambda: Raw(
            start(400, trailers=True), body(b"No."), {"type": "http.response.trailers", "headers": [(b"x-t", b"1")]}
        )
    ),
    "range": answers(lambda: FileResponse(Path(__file__))),
    "handled": raises(lambda: KeyError("handled")),
}
"""Endpoints that are the same on both: by route, without the slash."""

STREAMS: dict[str, Callable[..., Any]] = {
    "mid-stream": answers(lambda: sse(CHUNK, then=ValueError(SECRET))),
    "before-first": answers(lambda: sse(then=StarletteHTTPException(429, "Too busy to begin.", {"Retry-After": "11"}))),
    "half-event": answers(lambda: sse(CHUNK, b'data: {"choices":[{"ind', then=flexmw.UpstreamTimeout())),
    "after-done": answers(lambda: sse(CHUNK, b"data: [DONE]\n\n", then=ValueError(SECRET))),
    "healthy": answers(lambda: sse(CHUNK, CHUNK[:20], CHUNK[20:], b"data: [DONE]\n\n")),
    "ndjson": answers(
        lambda: StreamingResponse(chunks(b'{"a":1}\n', then=ValueError(SECRET)), media_type="application/x-ndjson")
    ),
}


async def ws_deny(websocket: WebSocket) -> None:
    raise WebSocketException(1008, "Members only.")


async def ws_http(websocket: WebSocket) -> None:
    raise StarletteHTTPException(401, "No token.", {"WWW-Authenticate": "Bearer"})


async def ws_crash_before(websocket: WebSocket) -> None:
    raise ValueError(SECRET)


async def ws_crash(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("hello")
    raise ValueError(SECRET)


async def ws_kind(websocket: WebSocket) -> None:
    await websocket.accept()
    raise flexmw.InsufficientCredit()


async def ws_leave(websocket: WebSocket) -> None:
    await websocket.accept()


SOCKETS = {
    "deny": ws_deny,
    "http": ws_http,
    "crash-before": ws_crash_before,
    "crash": ws_crash,
    "kind": ws_kind,
    "leave": ws_leave,
}


async def raising_app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        raise flexmw.JobNotFound()


def _middleware() -> list[Middleware]:
    hosts = ["127.0.0.1", "localhost", "upstream", "host", "testserver"]
    return [
        Middleware(TrustedHostMiddleware, allowed_hosts=hosts),
        Middleware(CORSMiddleware, allow_origins=["https://ui.example"], expose_headers=["x-request-id"]),
    ]


async def _handled(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": "Handled by the host."}, 409)


def _mounted() -> Starlette:
    names = ("crash", "kind", "text", "timeout", "envelope")
    return Starlette(routes=[Route(f"/{name}", SHARED[name]) for name in names])


async def _through(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


def starlette_app() -> Starlette:
    """Everything on plain Starlette."""
    routes: list[Any] = [Route(f"/{name}", endpoint, methods=["GET", "POST"]) for name, endpoint in SHARED.items()]
    routes += [Route(f"/{name}/chat/completions", each, methods=["POST"]) for name, each in STREAMS.items()]
    routes += [Route(f"/{name}/responses", each, methods=["POST"]) for name, each in STREAMS.items()]
    routes += [WebSocketRoute(f"/ws/{name}", each) for name, each in SOCKETS.items()]
    routes += [
        Mount("/sub", _mounted()),
        Mount("/raw", raising_app),
        Mount("/zip", GZipMiddleware(_mounted(), minimum_size=10)),
        Mount("/base", BaseHTTPMiddleware(_mounted(), dispatch=_through)),
        Mount("/static", StaticFiles(directory=Path(__file__).parent)),
    ]
    return Starlette(routes=routes, middleware=_middleware(), exception_handlers={KeyError: _handled})


def _bearer(authorization: str | None = Header(None)) -> str:
    if authorization is None:
        raise HTTPException(401, "Not authenticated", {"WWW-Authenticate": "Bearer"})
    return authorization


def _refuses() -> None:
    raise flexmw.InvalidAPIKey()


def fastapi_app() -> FastAPI:
    """Everything on FastAPI, and what only FastAPI can do."""
    app = FastAPI(middleware=_middleware(), exception_handlers={KeyError: _handled}, openapi_url=None)
    for name, endpoint in SHARED.items():
        app.add_api_route(f"/{name}", endpoint, methods=["GET", "POST"], response_model=None)
    for name, endpoint in STREAMS.items():
        app.add_api_route(f"/{name}/chat/completions", endpoint, methods=["POST"], response_model=None)
        app.add_api_route(f"/{name}/responses", endpoint, methods=["POST"], response_model=None)
    for name, socket in SOCKETS.items():
        app.add_api_websocket_route(f"/ws/{name}", socket)
    app.mount("/sub", _mounted())
    app.mount("/raw", raising_app)
    app.mount("/zip", GZipMiddleware(_mounted(), minimum_size=10))
    app.mount("/base", BaseHTTPMiddleware(_mounted(), dispatch=_through))
    app.mount("/static", StaticFiles(directory=Path(__file__).parent))

    @app.post("/validate")
    async def validate(order: Order) -> None: ...

    @app.post("/validate-number")
    async def validate_number(n: int = Body(embed=True)) -> None: ...

    @app.get("/bearer")
    async def bearer(key: str = Depends(_bearer)) -> None: ...

    @app.get("/dependency", dependencies=[Depends(_refuses)])
    async def dependency() -> None: ...

    @app.post("/native/chat/completions", response_class=fastapi.sse.EventSourceResponse)
    async def native() -> AsyncIterable[dict[str, Any]]:
        yield {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}
        await asyncio.sleep(0.05)  # FastAPI drops what it has not sent when the generator raises
        raise ValueError(SECRET)

    @app.post("/native-first/chat/completions", response_class=fastapi.sse.EventSourceResponse)
    async def native_first() -> AsyncIterable[dict[str, Any]]:
        raise HTTPException(429, "Too busy to begin.", {"Retry-After": "11"})
        yield {}

    @app.post("/native-good/chat/completions", response_class=fastapi.sse.EventSourceResponse)
    async def native_good() -> AsyncIterable[dict[str, Any]]:
        yield {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}

    return app
