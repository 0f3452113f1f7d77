"""The kinds of traffic of a hostile day, and what every response has to keep."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any, Final

from benchmarks.hostile.app import INTERNAL
from benchmarks.hostile.table import Findings
from benchmarks.hostile.wire import NotHTTP, Response, connect, exchange, read, request_bytes, reset

__all__ = ["TRAFFIC", "Traffic", "judge"]

LENT: Final = b"lent-to-nobody"
MEMBERS: Final = {"message", "type", "code"}


def judge(findings: Findings, trial: str, response: Response, *statuses: int) -> None:
    """What holds for every response: an expected status, errors in the envelope, and nothing internal in a body."""
    findings.check(response.status in statuses, f"{trial}: status {response.status}", response.body[:80])
    findings.check(INTERNAL.encode() not in response.body, f"{trial}: text of an exception", response.body[:80])
    if response.status >= 400 and response.body:
        findings.check(_is_envelope(response.body), f"{trial}: no envelope", response.body[:80])
    if response.header("idempotent-replayed"):
        findings.check(response.header("set-cookie") is None, f"{trial}: a cookie in a replay")
        findings.check(LENT not in repr(response.headers).encode(), f"{trial}: a secret header in a replay")


def _is_envelope(body: bytes) -> bool:
    try:
        error = json.loads(body)["error"]
    except (ValueError, TypeError, KeyError):
        return False
    return isinstance(error, dict) and error.keys() >= MEMBERS


class Traffic:
    """Sends one request of each kind; :data:`TRAFFIC` has the kinds by name.

    :param port: of the server.
    :param findings: takes the faults.
    :param random: draws what varies.
    """

    def __init__(self, port: int, findings: Findings, random: Random) -> None:
        self.port = port
        self.findings = findings
        self.random = random
        self._kept: dict[str, bytes] = {}

    def caller(self) -> tuple[str, str]:
        return "Authorization", f"Bearer caller-{self.random.randrange(40)}"

    def key(self) -> tuple[str, str]:
        return "Idempotency-Key", f"key-{self.random.getrandbits(64):x}"

    async def simple(
        self, method: str, target: str, *statuses: int, headers: Any = (), body: bytes = b"", trial: str = ""
    ) -> Response:
        data = request_bytes(method, target, [self.caller(), *headers], body)
        response = await exchange(self.port, data, method=method)
        judge(self.findings, trial or f"{method} {target}", response, *statuses)
        return response

    async def repeated(self) -> None:
        """A keyed POST and its repetition: the same response."""
        headers = [self.caller(), self.key()]
        data = request_bytes("POST", "/work", headers, b"{}")
        first, again = await exchange(self.port, data), await exchange(self.port, data)
        judge(self.findings, "repeated", first, 200)
        judge(self.findings, "repeated", again, 200)
        self.findings.check(first.body == again.body, "repeated: another response", (first.body, again.body))

    async def at_once(self) -> None:
        """Three equal keyed POSTs at once: one execution."""
        data = request_bytes("POST", "/work", [self.caller(), self.key()], b"{}")
        responses = await asyncio.gather(*(exchange(self.port, data) for _ in range(3)))
        for response in responses:
            judge(self.findings, "at once", response, 200, 409)
        bodies = {response.body for response in responses if response.status == 200}
        self.findings.check(len(bodies) == 1, "at once: not one execution", bodies)

    async def of_an_sdk(self) -> None:
        """An openai SDK's first attempt and its retry, without a key: the same response."""
        body = json.dumps({"n": self.random.getrandbits(64)}).encode()
        caller = self.caller()
        first, again = [
            await exchange(
                self.port, request_bytes("POST", "/work", [caller, ("x-stainless-retry-count", str(count))], body)
            )
            for count in range(2)
        ]
        judge(self.findings, "of an SDK", first, 200)
        judge(self.findings, "of an SDK", again, 200)
        self.findings.check(first.body == again.body, "of an SDK: executed twice", (first.body, again.body))

    async def broken_stream(self) -> None:
        """A stream that breaks: its end is no regular end, or an error event."""
        events = self.random.random() < 0.5
        data = request_bytes("GET", f"/stream?broken=true&size=200&events={str(events).lower()}", [self.caller()])
        try:
            response = await exchange(self.port, data)
        except NotHTTP:
            return
        judge(self.findings, "broken stream", response, 200, 500)
        self.findings.check(
            response.status == 500 or b'"error"' in response.body, "broken stream: taken as whole", response.body[-80:]
        )

    async def gone(self, target: str, *, keyed: bool, wait: float) -> None:
        """A client that leaves before the end, by a reset or in order."""
        headers = [self.caller(), *([self.key()] if keyed else [])]
        reader, writer = await connect(self.port)
        writer.write(request_bytes("POST" if keyed else "GET", target, headers, b"{}" if keyed else b"", close=False))
        await writer.drain()
        try:
            async with asyncio.timeout(wait):
                await reader.read(100)
        except TimeoutError:
            pass
        reset(writer) if self.random.random() < 0.5 else writer.close()

    async def junk(self) -> None:
        """Bytes that are no HTTP: the server answers for itself, or closes."""
        reader, writer = await connect(self.port)
        writer.write(self.random.randbytes(200) + b"\r\n\r\n")
        try:
            async with asyncio.timeout(1.0):
                await reader.read(1000)
        except (TimeoutError, ConnectionError):
            pass
        writer.close()

    async def half_an_upload(self) -> None:
        """A keyed upload whose client leaves in the middle: nothing runs."""
        _, writer = await connect(self.port)
        head = request_bytes("POST", "/work", [self.caller(), self.key()], b"x" * 1000, close=False)
        writer.write(head[: -self.random.randrange(1, 999)])
        await writer.drain()
        reset(writer) if self.random.random() < 0.5 else writer.close()

    async def slow_upload(self) -> None:
        reader, writer = await connect(self.port)
        data = request_bytes("POST", "/work", [self.caller(), self.key()], b"x" * 30)
        for start in range(0, len(data), 60):
            writer.write(data[start : start + 60])
            await writer.drain()
            await asyncio.sleep(0.005)
        judge(self.findings, "slow upload", await read(reader, "POST"), 200)
        writer.close()

    async def pipelined(self) -> None:
        """Two equal keyed POSTs on one connection, without a pause."""
        headers = [self.caller(), self.key()]
        reader, writer = await connect(self.port)
        data = request_bytes("POST", "/work", headers, b"{}", close=False)
        writer.write(data + request_bytes("POST", "/work", headers, b"{}"))
        async with asyncio.timeout(30.0):
            raw = await reader.read(-1)
        writer.close()
        self.findings.check(raw.count(b"HTTP/1.1 ") == 2, "pipelined: not two responses", raw[:200])
        runs = {part.partition(b"}")[0] for part in raw.split(b'"run":')[1:]}
        self.findings.check(len(runs) == 1, "pipelined: executed twice", runs)

    async def half_closed(self) -> None:
        """A client that has closed its half of the connection waits for its response, or gets none; it runs once."""
        reader, writer = await connect(self.port)
        writer.write(request_bytes("POST", "/work", [self.caller(), self.key()], b"{}"))
        writer.write_eof()
        try:
            async with asyncio.timeout(1.0):
                judge(self.findings, "half closed", await read(reader, "POST"), 200)
        except (NotHTTP, TimeoutError, ConnectionError):
            pass  # servers differ
        writer.close()

    async def expecting(self) -> None:
        """``Expect: 100-continue``."""
        headers = [self.caller(), self.key(), ("Expect", "100-continue")]
        data = request_bytes("POST", "/work", headers, b"{}")
        judge(self.findings, "100-continue", await exchange(self.port, data, method="POST"), 200)

    async def reused(self) -> None:
        """One key for two requests."""
        headers = [self.caller(), self.key()]
        await exchange(self.port, request_bytes("POST", "/work", headers, b"1"))
        response = await exchange(self.port, request_bytes("POST", "/work", headers, b"2"))
        judge(self.findings, "reused key", response, 422)

    async def validation(self) -> None:
        value = f"S3CRET{self.random.getrandbits(40):x}"
        shapes: list[Any] = [
            {"amount": value}, {"amount": 1, value: 1}, {"amount": 1, "side": {"kind": value}},
            {"amount": 1, "table": {value: "x"}}, {"amount": 1, "checked": value},
        ]  # fmt: skip
        body = json.dumps(self.random.choice(shapes)).encode()
        json_type = [("Content-Type", "application/json")]
        response = await self.simple("POST", "/orders", 422, headers=json_type, body=body, trial="validation")
        self.findings.check(value.encode() not in response.body, "validation: input repeated", response.body[:200])

    async def limited(self) -> None:
        headers = [("Authorization", "Bearer one-caller")]
        response = await exchange(self.port, request_bytes("GET", "/limited", headers))
        judge(self.findings, "limited", response, 200, 429)
        has_wait = response.header("retry-after") is not None
        self.findings.check(response.status == 200 or has_wait, "limited: 429 without Retry-After")


Kind = Callable[[Traffic], Awaitable[object]]

# fmt: off
TRAFFIC: Final[Mapping[str, Kind]] = {
    "good": lambda self: self.simple("GET", "/ping", 200),
    "good HEAD": lambda self: self.simple("HEAD", "/ping", 405),
    "no such path": lambda self: self.simple("GET", "/nowhere", 404),
    "no such method": lambda self: self.simple("PUT", "/ping", 405),
    "large body": lambda self: self.simple("POST", "/work", 200, headers=[self.key()], body=b"x" * 300_000),
    "crash": lambda self: self.simple("GET", "/crash", 500),
    "keyed crash": lambda self: self.simple("POST", "/crash", 500, headers=[self.key()]),
    "declared error": lambda self: self.simple("GET", "/kinds/missing", 400),
    "declared limit": lambda self: self.simple("GET", "/kinds/limited", 429),
    "keyed statuses": lambda self: self.simple(
        "POST", f"/status/{self.random.choice((201, 204, 404, 409))}", 201, 204, 404, 409, headers=[self.key()]),
    "key that is too long": lambda self: self.simple(
        "POST", "/work", 400, headers=[("Idempotency-Key", "k" * 2000)], body=b"{}"),
    "long header": lambda self: self.simple("GET", "/ping", 200, headers=[("Cookie", "a=" + "b" * 4000)]),
    "stream": lambda self: self.simple("GET", "/stream?parts=20&size=1000", 200),
    "keyed stream": lambda self: self.simple("POST", "/stream?parts=5&events=true", 200, headers=[self.key()]),
    "broken stream": Traffic.broken_stream,
    "background that fails": lambda self: self.simple("POST", "/background?broken=true", 200, headers=[self.key()]),
    "repeated": Traffic.repeated,
    "at once": Traffic.at_once,
    "of an SDK": Traffic.of_an_sdk,
    "reused key": Traffic.reused,
    "validation": Traffic.validation,
    "limited": Traffic.limited,
    "gone from a stream": lambda self: self.gone("/stream?parts=50&size=5000&pause=0.01", keyed=False, wait=0.05),
    "gone from a keyed stream": lambda self: self.gone("/stream?parts=20&pause=0.01", keyed=True, wait=0.05),
    "gone from a keyed POST": lambda self: self.gone("/work", keyed=True, wait=0.002),
    "junk": Traffic.junk,
    "half an upload": Traffic.half_an_upload,
    "slow upload": Traffic.slow_upload,
    "pipelined": Traffic.pipelined,
    "half closed": Traffic.half_closed,
    "100-continue": Traffic.expecting,
}
# fmt: on
"""One request, or a few that belong together, by name."""
