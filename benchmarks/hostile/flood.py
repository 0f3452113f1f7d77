"""Floods: more callers, keys, addresses and bytes than anybody has, and a store that accepts and never responds.

Memory, time and files stay within a bound that no input moves. Everything runs in this process, without a server.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from glob import glob
from pathlib import Path
from random import Random
from typing import Any, Final

import httpx

import flexmw
from benchmarks.hostile.app import of_process
from benchmarks.hostile.table import Findings, Row, Settings
from flexmw.testing import FakeClock
from flexmw.testing.hostile.ports import HOST
from tests.tagging.sdk import Signals

__all__ = ["run"]

App = Callable[..., Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

LONGEST_STOP: Final = 0.25
"""CPU seconds of one request. The promise is 20 ms, on a quiet machine."""

STORE_TIMEOUT: Final = 0.25
LONGEST_REFUSAL: Final = 2.0
PIECES: Final = (
    "\n", " ", "a-", "4111 1111 1111 1112 ", "://a@", "a=b;", "Bearer ", 'File "', '{"a":', "[", "password:", "1, ",
    "-----BEGIN ", "data: x\n", "\r", "&a=", "%74", "\\u00e9", '"', "é",
)  # fmt: skip
"""What costs a parser or a redactor most, repeated."""


def run(settings: Settings) -> Iterator[Row]:
    """Each flood, one row."""
    random = Random(settings.seed)
    for trial, flood in FLOODS.items():
        findings = Findings()
        note = asyncio.run(flood(findings, random, settings.folder))
        yield findings.row("flood", trial, note)


async def ok(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"ok"})


def refusing(size: int) -> App:
    """An app that refuses every credential, by a response of ``size`` bytes."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"x" * size})

    return app


async def call(
    app: App, headers: Headers, *, method: str = "GET", client: str = "10.0.0.1", body: bytes = b"", path: str = "/"
) -> int:
    """Send a request to an app. Returns the status; 0 where there is no response."""
    statuses = [0]
    received = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(received, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
        "raw_path": path.encode(), "root_path": "", "query_string": b"", "scheme": "http", "headers": headers,
        "client": (client, 1), "server": (HOST, 80), "state": {},
    }  # fmt: skip
    with suppress(Exception):  # Envelope raises again what the app raised
        await app(scope, receive, send)
    return statuses[-1]


@contextmanager
def memory(findings: Findings, most_bytes: int) -> Iterator[list[str]]:
    """Count a fault where this process grows by more than so many bytes. The list gets the growth as a text."""
    gc.collect()
    before = of_process()["rss"]
    note: list[str] = []
    yield note
    gc.collect()
    grown = of_process()["rss"] - before
    note.append(f"{grown / 1e6:.0f} MB")
    findings.check(grown <= most_bytes, "memory grew", note[0])


async def unseen_callers(findings: Findings, random: Random, folder: Path) -> str:
    app = flexmw.wrap_app(ok, flexmw.RateLimit("10/minute", new_keys_per_address=10**6))
    with memory(findings, 60_000_000) as note:
        for number in range(40_000):
            findings.inputs += 1
            status = await call(app, [(b"authorization", b"Bearer %d" % number)])
            findings.check(status == 200, f"status {status}", number)
    return f"{note[0]} for 40,000 callers"


async def invented_keys(findings: Findings, random: Random, folder: Path) -> str:
    app = flexmw.wrap_app(refusing(1_000_000), flexmw.RateLimit("2/minute"))
    statuses = []
    for number in range(400):
        findings.inputs += 1
        statuses.append(await call(app, [(b"authorization", b"Bearer invented-%d" % number)]))
    passed = statuses.count(401)
    findings.check(passed <= 102, "an address gets more than its 100 new keys and its own rate", passed)
    return f"{passed} of 400 passed, as documented"


async def spoofed_addresses(findings: Findings, random: Random, folder: Path) -> str:
    """One client in many spellings: no spelling is a new caller."""
    forms: list[Headers] = [
        [(b"x-forwarded-for", b"1.2.3.%d" % number)] for number in range(20)
    ] + [
        [(b"forwarded", b"for=1.2.3.4")], [(b"x-real-ip", b"1.2.3.4")], [(b"cf-connecting-ip", b"1.2.3.4")],
        [(b"authorization", b"")], [(b"authorization", b"Bearer ")], [(b"true-client-ip", b"1.2.3.4")],
    ]  # fmt: skip
    app = flexmw.wrap_app(ok, flexmw.RateLimit("2/minute"))
    statuses = [await call(app, headers) for headers in forms]
    findings.inputs += len(forms)
    findings.check(statuses.count(200) == 2, "a spelling beats the limit", statuses)
    return f"{statuses.count(200)} of {len(forms)} passed"


async def long_hops(findings: Findings, random: Random, folder: Path) -> str:
    app = flexmw.wrap_app(ok, flexmw.RateLimit("1000000/minute", trusted_proxies=["10.0.0.0/8"]))
    with memory(findings, 30_000_000) as note:
        for number in range(1_000):
            findings.inputs += 1
            await call(app, [(b"x-forwarded-for", b"%d" % number + b"x" * 60_000)])
    return note[0]


async def long_values(findings: Findings, random: Random, folder: Path) -> str:
    """Hosts, paths, user agents and keys that are long and never the same."""
    app = flexmw.wrap_app(ok, flexmw.Tagging(), flexmw.Envelope(), flexmw.RateLimit("1/minute"), flexmw.Idempotency())
    with memory(findings, 40_000_000) as note:
        for number in range(500):
            findings.inputs += 1
            text = b"%d" % number + b"x" * 16_000
            headers = [(name, text) for name in (b"host", b"user-agent", b"cookie", b"x-api-key", b"idempotency-key")]
            address = f"10.1.{number // 250}.{number % 250}"
            await call(app, headers, method="POST", path=f"/{text.decode()}", client=address)
    return note[0]


async def costly_texts(findings: Findings, random: Random, folder: Path) -> str:
    """64 KB of one piece as an error body, as an exception, and in the headers of the request."""
    slowest, slowest_trial = 0.0, ""
    for piece, path in itertools.product(PIECES, ("/text", "/json", "/crash")):
        text = ("x" + piece * 65_536)[:65_536]
        headers = [(name, text.encode()) for name in (b"cookie", b"accept", b"user-agent")]
        findings.inputs += 1
        seconds = []
        with Signals() as signals:
            app = flexmw.wrap_app(
                costly(text),
                flexmw.Tagging(server_span=True, **signals.options),
                flexmw.Envelope(),
                flexmw.RateLimit("9/second"),
            )
            for _ in range(3):
                began = time.process_time()
                await call(app, headers, path=path)
                seconds.append(time.process_time() - began)
        trial = f"{path} {piece!r}"
        if min(seconds) > slowest:
            slowest, slowest_trial = min(seconds), trial
        findings.check(min(seconds) < LONGEST_STOP, "the loop stands still", f"{trial} {min(seconds):.2f} s")
    return f"longest {slowest * 1000:.0f} ms ({slowest_trial})"


def costly(text: str) -> App:
    """An app that responds with a text, or raises it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/crash":
            raise RuntimeError(text * 4)
        media_type = b"application/json" if scope["path"] == "/json" else b"text/plain"
        await send({"type": "http.response.start", "status": 400, "headers": [(b"content-type", media_type)]})
        await send({"type": "http.response.body", "body": text.encode()})

    return app


async def hostile_headers(findings: Findings, random: Random, folder: Path) -> str:
    """Rate-limit, Retry-After, Date and TTL headers of every kind into all client components."""
    values = (
        "0", "-1", "1", "34", "1e309", "inf", "nan", "9" * 400, "1.5", "0x10", "", " ", "tomorrow", "1h30m", "-0", "+5",
        "Wed, 21 Oct 2099 07:28:00 GMT", "Wed, 99 Foo 2026 99:99:99 GMT", "1,2,3",
        '"a";q=1;w=0', "é", "1795899893", "5;w=1",
    )  # fmt: skip
    names = (
        "retry-after", "retry-after-ms", "date", "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests", "x-ratelimit-reset", "ratelimit", "ratelimit-policy", "idempotency-key-ttl",
        "x-should-retry", "content-type", "x-request-id", "age",
    )  # fmt: skip

    def respond(request: httpx.Request) -> httpx.Response:
        headers = [(name, random.choice(values).encode()) for name in names if random.random() < 0.5]
        status = random.choice((200, 200, 408, 409, 425, 429, 429, 500, 503, 503))
        return httpx.Response(status, headers=headers, text=random.choice(("", "x", '{"error":1}', "[" * 500)))

    clock = FakeClock()
    components = (flexmw.Tagging(), flexmw.Envelope(), flexmw.Retry(clock=clock), flexmw.Pace(clock=clock))
    transport = flexmw.httpx.AsyncTransport(*components, transport=httpx.MockTransport(respond), clock=clock)
    async with httpx.AsyncClient(transport=transport, base_url="http://origin") as client:
        for number in range(1_500):
            findings.inputs += 1
            try:
                await client.request(random.choice(("GET", "POST")), f"/{number % 7}", content=b"{}")
            except httpx.HTTPError:
                pass
            except Exception as error:
                findings.check(False, "an error that is not the library's", repr(error))
    slept = clock.slept
    findings.check(all(0.0 <= seconds <= 120.0 for seconds in slept), "a wait without a bound", max(slept, default=0.0))
    return f"longest wait {max(slept, default=0.0):.0f} s"


@contextmanager
def half_dead() -> Iterator[int]:
    """A port that accepts connections, reads, and never responds."""
    held: list[socket.socket] = []
    with socket.create_server((HOST, 0), backlog=512) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    held.append(listener.accept()[0])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for each in held:
        each.close()


async def half_dead_store(findings: Findings, random: Random, folder: Path) -> str:
    slowest = 0.0
    with half_dead() as port:
        for policy, status in (("refuse", 503), ("run", 200)):
            store = flexmw.Idempotency(
                storage=f"redis://{HOST}:{port}", on_store_failure=policy, store_timeout=STORE_TIMEOUT
            )
            limit = flexmw.RateLimit(
                "1000000/minute", storage=f"redis://{HOST}:{port}", on_store_failure="local", store_timeout=0.1
            )
            app = flexmw.wrap_app(ok, flexmw.Envelope(), limit, store)

            async def one(number: int, app: Any = app) -> tuple[int, float]:
                began = time.monotonic()
                headers = [(b"idempotency-key", b"k%d" % number), (b"authorization", b"Bearer one")]
                return await call(app, headers, method="POST", body=b"{}"), time.monotonic() - began

            for count in (1, 16, 48):
                results = await asyncio.gather(*(one(number) for number in range(count)))
                findings.inputs += count
                slowest = max(slowest, *(seconds for _, seconds in results))
                findings.check({each for each, _ in results} == {status}, f"not all {status}", results[:3])
    findings.check(slowest < LONGEST_REFUSAL, "a request waits for a dead store", f"{slowest:.2f} s")
    return f"slowest {slowest:.2f} s, store_timeout {STORE_TIMEOUT} s"


async def refused_credentials(findings: Findings, random: Random, folder: Path) -> str:
    """Keyed requests with credentials that the app refuses leave nothing in the store, whatever the response is: the
    file and its log are as large as after responses without a body."""
    sizes = []
    for body_size in (0, 1_000_000):
        file = folder / f"refused-{body_size}.db"
        for authenticated in (None, lambda scope: False):
            storage = f"sqlite:///{file}"
            app = flexmw.wrap_app(refusing(body_size), flexmw.Idempotency(storage=storage, authenticated=authenticated))
            for number in range(30):
                findings.inputs += 1
                headers = [(b"idempotency-key", b"k%d" % number), (b"authorization", b"Bearer wrong")]
                status = await call(app, headers, method="POST", body=b"{}")
                findings.check(status == 401, f"status {status}", number)
        sizes.append(sum(each.stat().st_size for each in map(Path, glob(f"{file}*"))))  # noqa: PTH207
    findings.check(sizes[1] - sizes[0] < 100_000, "the file grew with the responses", sizes)
    return f"{sizes[1] / 1e3:.0f} KB, {sizes[0] / 1e3:.0f} without a body"


Flood = Callable[[Findings, Random, Path], Awaitable[str]]

FLOODS: Final[dict[str, Flood]] = {
    "unseen callers": unseen_callers,
    "invented keys from one address, 2/minute": invented_keys,
    "one client in many spellings, 2/minute": spoofed_addresses,
    "forwarded hops of 60 KB": long_hops,
    "hosts, paths, agents and keys of 16 KB": long_values,
    "64 KB that cost the most, in bodies, headers and exceptions": costly_texts,
    "rate-limit headers of every kind, all client components": hostile_headers,
    "a redis that accepts and never responds, 1, 16, 48 at once": half_dead_store,
    "refused credentials, responses of 1 MB, sqlite": refused_credentials,
}
