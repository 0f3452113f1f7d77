"""Whatever a server and its proxies do to a stream, the caller reads a part of one response, or all of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

import httpx
from hypothesis import given
from hypothesis import strategies as st

import flexmw.httpx
from flexmw import Retry
from flexmw.contract.idempotent_stream import STREAM, format_stream, parse_stream
from flexmw.testing import FakeClock

GENERATIONS = ("0f8fad5bd9cb469fa165", "77aa0b0e5c4f4ad98f2d")

Act = Literal[
    "whole",
    "cut",
    "clean cut",
    "lost head",
    "refused",
    "wait",
    "gone",
    "changed",
    "other bytes",
    "replay",
    "unknown",
    "504",
]


@dataclass(frozen=True)
class Step:
    """What happens to one request; ``size`` says after how many bytes a response is cut."""

    act: Act
    size: int


class Body(httpx.SyncByteStream):
    def __init__(self, data: bytes, error: Exception | None, chunk: int) -> None:
        self.data, self.error, self.chunk = data, error, chunk

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self.data), self.chunk):
            yield self.data[start : start + self.chunk]
        if self.error is not None:
            raise self.error


class Server(httpx.BaseTransport):
    """A server whose execution has ended, behind proxies that cut."""

    def __init__(self, body: bytes, steps: list[Step], chunk: int, *, keeps: bool, sse: bool) -> None:
        self.body, self.steps, self.chunk, self.keeps = body, steps, chunk, keeps
        self.type = "text/event-stream" if sse else "application/octet-stream"
        self.executions = self.requests = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        step = self.steps.pop(0) if self.steps else Step("whole", 0)
        position = parse_stream(request.headers.get_list(STREAM)) if STREAM in request.headers else None
        if position is None and self.executions == 0:
            self.executions = 1
        match step.act:
            case "lost head":
                raise httpx.ReadError("lost", request=request)
            case "refused":
                raise httpx.ConnectError("refused", request=request)
            case "wait" if self.requests > 1:
                return self._refusal(409, "idempotency_in_progress", {"retry-after": "1"})
            case "504":
                return self._refusal(504, None, {})
            case "gone" if position is not None:
                return self._refusal(410, "idempotency_stream_gone", {})
            case "unknown" if self.requests > 1:
                return self._refusal(409, "idempotency_unknown", {})
            case _:
                return self._response(step, position)

    def _response(self, step: Step, position: Any) -> httpx.Response:
        body = self.body if step.act != "other bytes" or self.requests == 1 else b"?" + self.body[1:]
        start = 0 if position is None or not self.keeps or step.act == "replay" else position.start
        headers = {"content-type": self.type, "idempotency-key-ttl": "3600"}
        if self.keeps and step.act != "replay":
            generation = GENERATIONS[step.act == "changed" and self.requests > 1]
            digest = None if position is None else sha256(body[:start]).digest()
            headers[STREAM] = format_stream(generation, None if position is None else start, digest)
        if self.requests > 1:
            headers["content-length"] = str(len(body) - start)
        data, error = body[start:], None
        if step.act in ("cut", "clean cut"):
            data = data[: step.size]
            if step.act == "cut" or "content-length" in headers:
                error = httpx.RemoteProtocolError("cut")
        return httpx.Response(200, headers=headers, stream=Body(data, error, self.chunk))

    def _refusal(self, status: int, code: str | None, headers: dict[str, str]) -> httpx.Response:
        response = httpx.Response(status, headers=headers, json={"error": {"message": "no", "code": code}})
        return httpx.Response(status, headers=response.headers, stream=Body(response.content, None, 64))


steps = st.builds(Step, st.sampled_from(Act.__args__), st.integers(0, 60))


@given(
    st.lists(
        st.sampled_from([b"data: 1\n\n", b"data: \xc3\xa9\r\n\r\n", b": ping\n\n", b"data: [DONE]\n\n"]), max_size=8
    ),
    st.lists(steps, max_size=12),
    st.integers(1, 40),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 5, "replay"]),
)
def test_the_caller_reads_a_beginning_of_one_response_and_a_clean_end_means_all_of_it(
    events: list[bytes], script: list[Step], chunk: int, keeps: bool, sse: bool, resume: Any
) -> None:
    events = [event for event in events if b"DONE" not in event] + [event for event in events if b"DONE" in event][:1]
    body = b"".join(events)
    server = Server(body, list(script), chunk, keeps=keeps, sse=sse)
    clock = FakeClock()
    policy = Retry(key_origins=("https://api.test",), resume=resume, clock=clock, random=lambda: 0.5, budget_ratio=10.0)
    transport = flexmw.httpx.Transport(policy, transport=server, clock=clock)
    received, failed, status = b"", None, 200
    with httpx.Client(transport=transport) as client:
        try:
            with client.stream("POST", "https://api.test/", headers={"idempotency-key": "k"}, json={}) as response:
                status = response.status_code
                for piece in response.iter_raw():
                    received += piece
        except httpx.TransportError as error:
            failed = error
    if status != 200:
        return
    assert received in (body[: len(received)], (b"?" + body[1:])[: len(received)])
    assert server.executions <= 1
    if failed is not None:
        assert failed.flexmw.outcome in ("ambiguous", "unsent")  # type: ignore[attr-defined]
    elif keeps and resume == 5 and not any(step.act in ("other bytes", "replay") for step in script):
        assert received == body
