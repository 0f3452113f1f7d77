"""The paths whose cost is counted: requests without faults through clients and through apps, without a socket.

Each path is an async function that makes one request. What a path costs more than its base is what flexmw adds.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import httpcore
import httpcore2
import httpx
import httpx2
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from starlette.applications import Starlette
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import flexmw
from flexmw.kit.clock import SystemClock

__all__ = [
    "CLIENTS",
    "RATE",
    "SERVERS",
    "TRACED",
    "Path",
    "Step",
    "Steps",
    "client_paths",
    "server_paths",
    "traced_paths",
]

Step = Callable[[], Awaitable[object]]


class Steps(NamedTuple):
    """What a path does, again and again.

    :param step: makes the request that is counted.
    :param before: makes what the request needs, and is not counted.
    """

    step: Step
    before: Step | None = None


RATE: Final = "100000000/minute"
CLIENTS: Final = ("httpx", "httpx async", "httpx2", "httpx2 async")
SERVERS: Final = ("GET", "POST")
TRACED: Final = "GET, recorded"
CALLED: Final = "httpx, recorded"

BODY: Final = json.dumps({"object": "list", "data": []}).encode()
RESPONSE: Final = (
    b"HTTP/1.1 200 OK\r\ndate: Sun, 22 Nov 2026 10:00:00 GMT\r\nserver: uvicorn\r\ncontent-type: application/json\r\n"
    b"x-request-id: req_0123456789abcdef\r\nx-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 59\r\n"
    b"x-ratelimit-reset-requests: 1795341304\r\ncontent-length: %d\r\n\r\n%s"
) % (len(BODY), BODY)


@dataclass(frozen=True)
class Path:
    """One request, of a client (``httpx``) or to an app (``GET``), with a number of components around it.

    :param group: paths of one group make the same request.
    :param name: what is around the request; ``plain`` for nothing.
    :param prepare: returns the function that makes the request, or a context manager that enters the :class:`Steps`;
        called once, in the event loop.
    """

    group: str
    name: str
    prepare: Callable[[], Step | AbstractAsyncContextManager[Steps]]

    @asynccontextmanager
    async def steps(self) -> AsyncGenerator[Steps]:
        """Prepare the path, and clean up afterwards."""
        prepared = self.prepare()
        if isinstance(prepared, AbstractAsyncContextManager):
            async with prepared as steps:
                yield steps
        else:
            yield Steps(prepared)


class _StillClock(SystemClock):
    """Never moves: Tagging checks for new providers once a second, and that check is none of a request's cost."""

    def monotonic(self) -> float:
        return 0.0


STILL: Final = _StillClock()


class _Stream(httpcore.NetworkStream, httpcore.AsyncNetworkStream):
    """The end of a connection to a server that has responded before it was asked."""

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        pass

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return RESPONSE

    def get_extra_info(self, info: str) -> Any:
        return False if info == "is_readable" else None

    def close(self) -> None:
        pass


class _AsyncStream(_Stream):
    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # type: ignore[override]  # noqa: ASYNC109
        pass

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # type: ignore[override]  # noqa: ASYNC109
        return RESPONSE

    async def aclose(self) -> None:
        pass


class _Backend:
    def connect_tcp(self, *place: Any, **options: Any) -> _Stream:
        return _Stream()


class _AsyncBackend:
    async def connect_tcp(self, *place: Any, **options: Any) -> _AsyncStream:
        return _AsyncStream()


def _client(group: str) -> Any:
    library: Any = httpx2 if group.startswith("httpx2") else httpx
    core: Any = httpcore2 if library is httpx2 else httpcore
    if group.endswith("async"):
        transport = library.AsyncHTTPTransport(verify=False)
        transport._pool = core.AsyncConnectionPool(network_backend=_AsyncBackend())
        return library.AsyncClient(transport=transport, trust_env=False)
    transport = library.HTTPTransport(verify=False)
    transport._pool = core.ConnectionPool(network_backend=_Backend())
    return library.Client(transport=transport, trust_env=False)


def _trace(event: str, details: Any) -> None:
    pass


async def _async_trace(event: str, details: Any) -> None:
    pass


def _call(
    group: str,
    components: tuple[Any, ...] | None,
    *,
    traced: bool = False,
    method: str = "GET",
    provider: TracerProvider | None = None,
) -> Step:
    client = _client(group)
    if provider is not None:
        HTTPXClientInstrumentor.instrument_client(client, tracer_provider=provider)
    if components is not None:
        flexmw.wrap_client(client, *components)
    url, content = "http://a.example/v1/models", None if method == "GET" else b'{"n": 1}'
    if group.endswith("async"):
        extensions = {"trace": _async_trace} if traced else None

        async def step() -> None:
            assert (await client.request(method, url, content=content, extensions=extensions)).content == BODY
    else:
        extensions = {"trace": _trace} if traced else None

        async def step() -> None:
            assert client.request(method, url, content=content, extensions=extensions).content == BODY

    return step


def client_paths(method: str = "GET") -> list[Path]:
    """A request of each client, with each choice of components."""

    def path(group: str, name: str, make: Callable[[], tuple[Any, ...] | None], *, traced: bool = False) -> Path:
        return Path(group, name, lambda: _call(group, make(), traced=traced, method=method))

    return [
        each
        for group in CLIENTS
        for each in (
            path(group, "plain", lambda: None),
            path(group, "a trace callback", lambda: None, traced=True),
            path(group, "Retry", lambda: (flexmw.Retry(),)),
            path(group, "Tagging and Retry", lambda: (flexmw.Tagging(clock=STILL), flexmw.Retry())),
            path(group, "Pace", lambda: (flexmw.Pace(),)),
        )
    ]


async def _ok(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


def _request(method: str, components: tuple[Any, ...], around: Callable[[Any], Any] | None = None) -> Step:
    app: Any = Starlette(routes=[Route("/", _ok, methods=["GET", "POST"])])
    if around is not None:
        app = around(app)
    if components:
        app = flexmw.wrap_app(app, *components)
    headers = [
        (b"host", b"a.example"),
        (b"accept", b"*/*"),
        (b"authorization", b"Bearer sk-live-0001"),
        (b"content-type", b"application/json"),
    ]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": headers,
        "client": ("127.0.0.1", 1234),
        "server": ("a.example", 80),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        pass

    async def step() -> None:
        await app(dict(scope), receive, send)

    return step


def server_paths() -> list[Path]:
    """A request to a Starlette route, with each choice of components."""

    def path(group: str, name: str, make: Callable[[], tuple[Any, ...]]) -> Path:
        return Path(group, name, lambda: _request(group, make()))

    return [
        each
        for group in SERVERS
        for each in (
            path(group, "plain", lambda: ()),
            path(group, "Envelope", lambda: (flexmw.Envelope(),)),
            path(group, "RateLimit on memory", lambda: (flexmw.RateLimit(RATE),)),
            path(group, "Idempotency, no key", lambda: (flexmw.Idempotency(storage="memory://"),)),
            path(group, "Tagging without an SDK", lambda: (flexmw.Tagging(clock=STILL),)),
            path(
                group,
                "all components",
                lambda: (
                    flexmw.Tagging(clock=STILL),
                    flexmw.Envelope(),
                    flexmw.RateLimit(RATE),
                    flexmw.Idempotency(storage="memory://"),
                ),
            ),
        )
    ]


def traced_paths(provider: TracerProvider) -> list[Path]:
    """A request to a Starlette app that records its own span, and one of a client whose instrumentor records a span.

    :param provider: what records the spans.
    """

    def around(app: Any) -> Any:
        return OpenTelemetryMiddleware(app, tracer_provider=provider)

    def path(name: str, *components: Any) -> Path:
        return Path(TRACED, name, lambda: _request("GET", components, around))

    def call(name: str, *components: Any) -> Path:
        return Path(CALLED, name, lambda: _call("httpx", components or None, provider=provider))

    tagging = flexmw.Tagging(tracer_provider=provider, clock=STILL)
    return [
        path("plain"),
        path("Tagging", tagging),
        path("Tagging and Envelope", tagging, flexmw.Envelope()),
        call("plain"),
        call("Tagging and Retry", tagging, flexmw.Retry()),
    ]
