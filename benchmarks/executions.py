"""``python -m benchmarks.executions``: how often one POST is executed, and what is recovered, client by client.

Each contestant makes one logical POST against a server that misbehaves on every request and counts what it executed.
The first table is the danger (more than 1 execution without a key on the wire), the second the use: six faults after
which nothing was executed, each of which a client may safely get over. The third table is the danger on other paths:
clients over aiohttp, HTTP/2, apps in this process. Everything runs on loopback, once per cell.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import anthropic
import httpcore
import httpx
import httpx2
import httpx_retries
import openai
import requests
import stamina
import tenacity
from httpx_aiohttp import HttpxAiohttpClient
from rich.console import Console
from rich.table import Table

import flexmw
from flexmw.testing import HostileServer

__all__ = ["main"]

AMBIGUOUS = ("rst", "fin", "hang", "cut-body", "stall-body", "500", "502", "503", "504")
MESSAGES: Any = [{"role": "user", "content": "hello"}]
READ = 0.4
SOCKETS = {"trust_env": False}


@dataclass(frozen=True)
class Contestant:
    """`make` builds a client (its options are the library's), `call` makes one POST with it or raises."""

    name: str
    library: Any
    make: Callable[..., Any]
    call: Callable[[Any, str], object]


def plain(library: Any) -> Callable[..., Any]:
    return lambda **options: library.Client(**options)


def wrapped(library: Any) -> Callable[..., Any]:
    return lambda **options: flexmw.wrap_client(library.Client(**options))


def retries(**options: Any) -> Any:
    inner = {key: options.pop(key) for key in ("verify", "http2", "limits") if key in options}
    policy = httpx_retries.Retry(total=2, allowed_methods=["POST"], backoff_factor=0.05)
    transport = httpx_retries.RetryTransport(httpx.HTTPTransport(**inner), retry=policy)
    return httpx.Client(transport=transport, **options)


def post(client: Any, url: str) -> object:
    return client.post(url, json={"n": 1}).raise_for_status()


def with_tenacity(client: Any, url: str) -> object:
    again = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_fixed(0.05),
        retry=tenacity.retry_if_exception_type(httpx.HTTPError),
        reraise=True,
    )
    return again(post, client, url)


def with_stamina(client: Any, url: str) -> object:
    return stamina.retry(on=httpx.HTTPError, attempts=3, wait_initial=0.05, wait_max=0.1)(post)(client, url)


def with_openai(client: Any, url: str) -> object:
    sdk = openai.OpenAI(api_key="k", base_url=f"{url}/v1", http_client=client)
    return sdk.chat.completions.create(model="m", messages=MESSAGES)


def with_anthropic(client: Any, url: str) -> object:
    sdk = anthropic.Anthropic(api_key="k", base_url=url, http_client=client)
    return sdk.messages.create(model="m", max_tokens=9, messages=MESSAGES)


CONTESTANTS = (
    Contestant("httpx", httpx, plain(httpx), post),
    Contestant("httpx-retries, POST allowed", httpx, retries, post),
    Contestant("tenacity, 3 attempts", httpx, plain(httpx), with_tenacity),
    Contestant("stamina, 3 attempts", httpx, plain(httpx), with_stamina),
    Contestant("openai", httpx2, plain(httpx2), with_openai),
    Contestant("anthropic", httpx2, plain(httpx2), with_anthropic),
    Contestant("flexmw on httpx", httpx, wrapped(httpx), post),
    Contestant("flexmw on httpx2", httpx2, wrapped(httpx2), post),
    Contestant("openai over flexmw", httpx2, wrapped(httpx2), with_openai),
    Contestant("anthropic over flexmw", httpx2, wrapped(httpx2), with_anthropic),
)


def attempt(
    contestant: Contestant,
    url: str,
    during: Callable[[Any], AbstractContextManager[object]] | None = None,
    **options: Any,
) -> bool:
    """Whether the POST ended well. ``during`` holds while it is made, once the client is there."""
    timeout = contestant.library.Timeout(5.0, read=READ, connect=1.0, pool=options.pop("pool", 5.0))
    with contestant.make(timeout=timeout, **SOCKETS, **options) as client, during(client) if during else nullcontext():
        try:
            contestant.call(client, url)
        except Exception:
            return False
    return True


def executions(contestant: Contestant, fault: str) -> int:
    with HostileServer(then=fault) as server:
        attempt(contestant, server.url)
        return server.executions


@contextmanager
def briefly(block: AbstractContextManager[object], seconds: float) -> Iterator[None]:
    """Inside ``block`` for its first moments only."""
    block.__enter__()
    timer = threading.Timer(seconds, block.__exit__, (None, None, None))
    timer.start()
    try:
        yield
    finally:
        timer.join()


def briefly_taken(url: str, client: Any) -> AbstractContextManager[None]:
    """The only connection of the pool is in use."""
    return briefly(client.stream("GET", url), 0.3)


def recovers(contestant: Contestant, what: str) -> bool:
    """Whether a POST that was not executed at first is executed once in the end."""
    library = contestant.library
    if what == "refused":
        with HostileServer() as server:
            return (
                attempt(contestant, server.url, lambda _: briefly(server.refusing(), 0.05)) and server.executions == 1
            )
    if what == "pool":
        with HostileServer() as server:
            taken = partial(briefly_taken, server.url)
            limits = library.Limits(max_connections=1)
            return attempt(contestant, server.url, taken, limits=limits, pool=0.1) and server.executions == 2
    secure = what in ("tls", "refused-stream")
    script = {"tls": "rst-on-connect"}.get(what, what)
    with HostileServer([script], tls=secure, http2=what == "refused-stream") as server:
        options: dict[str, Any] = {"verify": server.client_context()} if secure else {}
        if what == "refused-stream":
            options["http2"] = True
        return attempt(contestant, server.url, **options) and server.executions == 1


@dataclass(frozen=True)
class Path:
    """`run` makes one POST under a fault on a way of its own, and returns the executions."""

    name: str
    faults: tuple[str, ...]
    run: Callable[[str], int]


def over_aiohttp(make: Callable[[], Any], library: Any, sdk: str = "") -> Callable[[str], int]:
    async def call(url: str) -> None:
        http = flexmw.wrap_client(make())
        http.timeout = library.Timeout(5.0, read=READ)
        if sdk == "openai":
            async with openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", http_client=http) as ai:
                await ai.chat.completions.create(model="m", messages=MESSAGES)
        elif sdk == "anthropic":
            async with anthropic.AsyncAnthropic(api_key="k", base_url=url, http_client=http) as claude:
                await claude.messages.create(model="m", max_tokens=9, messages=MESSAGES)
        else:
            async with http:
                await http.post(url, json={"n": 1})

    def run(fault: str) -> int:
        with HostileServer(then=fault) as server:
            with suppress(Exception):
                asyncio.run(call(server.url))
            return server.executions

    return run


def over_http2(library: Any) -> Callable[[str], int]:
    contestant = Contestant(f"flexmw on {library.__name__}", library, wrapped(library), post)

    def run(fault: str) -> int:
        with HostileServer(then=fault, tls=True, http2=True) as server:
            attempt(contestant, server.url, http2=True, verify=server.client_context())
            return server.executions

    return run


def refused(library: Any) -> BaseException:
    error: BaseException = library.ConnectError("refused")
    error.__cause__ = ConnectionRefusedError()
    return error


OWN_ERRORS: dict[str, Callable[[Any], BaseException]] = {
    "requests": lambda library: requests.ConnectTimeout("no"),
    "httpcore": lambda library: httpcore.ConnectError("no"),
    "ConnectError": lambda library: library.ConnectError("no"),
    "refused": refused,
    "PoolTimeout": lambda library: library.PoolTimeout("no"),
}
"""Errors of an app's own outgoing call that it lets through."""


def in_process(library: Any) -> Callable[[str], int]:
    def run(name: str) -> int:
        ran = 0

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal ran
            ran += 1
            raise OWN_ERRORS[name](library)

        async def call() -> None:
            async with flexmw.wrap_client(library.AsyncClient(transport=library.ASGITransport(app))) as client:
                await client.post("http://app/", json={"n": 1})

        with suppress(Exception):
            asyncio.run(call())
        return ran

    return run


HTTP2 = ("reset-stream", "goaway-late", "hang", "stall-body", "500", "502", "503", "504")
PATHS = (
    Path("httpx-aiohttp", AMBIGUOUS, over_aiohttp(HttpxAiohttpClient, httpx)),
    Path("openai over its own aiohttp client", AMBIGUOUS, over_aiohttp(openai.DefaultAioHttpClient, httpx2, "openai")),
    Path(
        "anthropic over its aiohttp client",
        AMBIGUOUS,
        over_aiohttp(anthropic.DefaultAioHttpClient, httpx2, "anthropic"),
    ),
    Path("HTTP/2, httpx", HTTP2, over_http2(httpx)),
    Path("HTTP/2, httpx2", HTTP2, over_http2(httpx2)),
    Path("app in this process, httpx", tuple(OWN_ERRORS), in_process(httpx)),
    Path("app in this process, httpx2", tuple(OWN_ERRORS), in_process(httpx2)),
)


SAFE = ("429:seconds=1", "503:seconds=1", "refused", "tls", "pool", "refused-stream")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="run the contestants whose name contains this")
    chosen = [each for each in CONTESTANTS if parser.parse_args().only in each.name]
    logging.disable(logging.WARNING)
    began, console = time.monotonic(), Console(width=170)
    danger = Table("client", *AMBIGUOUS, "worst", title="executions per POST that is answered badly, every time")
    use = Table("client", *SAFE, "of 6", title="faults before any execution, got over")
    missed = 0
    for each in chosen:
        counts = [executions(each, fault) for fault in AMBIGUOUS]
        danger.add_row(each.name, *map(str, counts), str(max(counts)))
        well = [recovers(each, what) for what in SAFE]
        use.add_row(each.name, *("yes" if good else "no" for good in well), str(sum(well)))
        if "flexmw" in each.name:
            missed += (max(counts) > 1) + (sum(well) < len(SAFE))
    other = Table("path", "executions by fault", "worst", title="executions per POST on other paths, all with flexmw")
    for path in (path for path in PATHS if parser.parse_args().only in path.name):
        by_fault = {fault: path.run(fault) for fault in path.faults}
        worst = max(by_fault.values())
        other.add_row(path.name, ", ".join(f"{fault} {count}" for fault, count in by_fault.items()), str(worst))
        missed += worst > 1
    console.print(danger, use, other, f"{time.monotonic() - began:.0f} s", sep="\n")
    return min(missed, 1)


if __name__ == "__main__":
    raise SystemExit(main())
