"""Unmodified SDKs over a wrapped client and a wrapped app on a real server: streams whose connections are cut."""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import anthropic
import anyio
import cohere
import groq
import httpx
import httpx2
import mistralai.client
import pytest
from anyio.lowlevel import checkpoint
from google import genai

import flexmw
from flexmw.testing.hostile import Received
from flexmw.testing.hostile.good import answer_to
from tests.retry.test_resume_sdks import (
    COHERE,
    GEMINI,
    MESSAGES,
    anthropic_helper,
    async_anthropic_helper,
    async_openai_stream,
    client,
    cohere_stream,
    genai_stream,
    groq_stream,
    mistral_stream,
    openai_helper,
    openai_stream,
)
from tests.servers import uvicorn_server

HOST = "127.0.0.1"


class Provider:
    """An app that streams to each SDK what the SDK can read, event by event, and counts its executions."""

    def __init__(self) -> None:
        self.executions = 0
        self.size = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, has_more = b"", True
        while has_more:
            message = await receive()
            body, has_more = body + message.get("body", b""), message.get("more_body", False)
        self.executions += 1
        stream = _body_for(scope["path"], body)
        self.size = len(stream)
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for start in range(0, len(stream), 50):
            await send({"type": "http.response.body", "body": stream[start : start + 50], "more_body": True})
            await checkpoint()
        await send({"type": "http.response.body", "body": b""})


def _body_for(path: str, body: bytes) -> bytes:
    if path.endswith(":streamGenerateContent"):
        return GEMINI
    if path.endswith("/v2/chat"):
        return COHERE
    return answer_to(Received(method="POST", target=path, body=body), 0).body


class CuttingProxy:
    """A TCP proxy that cuts responses.

    :ivar cuts: the bytes of the body after which the next responses are cut, in order; later ones are whole.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.cuts: list[int] = []
        self.made = 0
        self._listener = socket.create_server((HOST, 0), backlog=64)
        self.url = f"http://{HOST}:{self._listener.getsockname()[1]}"
        self._threads: list[threading.Thread] = []

    def run(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                thread = threading.Thread(target=self._carry, args=(near,))
                self._threads.append(thread)
                thread.start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _carry(self, near: socket.socket) -> None:
        """One connection with one request."""
        with closing(near), closing(socket.create_connection((HOST, self._port))) as far, suppress(OSError):
            request = b""
            while not _is_whole(request):
                if not (data := near.recv(65536)):
                    return
                request += data
            far.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
            self._respond(far, near)

    def _respond(self, far: socket.socket, near: socket.socket) -> None:
        left: int | None = self.cuts.pop(0) if self.cuts else None
        data = b""
        while b"\r\n\r\n" not in data:
            if not (piece := far.recv(65536)):
                return
            data += piece
        head, blank, data = data.partition(b"\r\n\r\n")
        near.sendall(head + blank)
        while data or (data := far.recv(65536)):
            if left is not None and len(data) > left:
                near.sendall(data[:left])
                self.made += 1
                if self.made % 2:
                    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            near.sendall(data)
            left, data = None if left is None else left - len(data), b""


def _is_whole(request: bytes) -> bool:
    head, blank, body = request.partition(b"\r\n\r\n")
    lines = [line.split(b":", 1) for line in head.split(b"\r\n")[1:]]
    length = next((int(value) for name, value in lines if name.lower() == b"content-length"), 0)
    return bool(blank) and len(body) >= length


@contextmanager
def served() -> Iterator[tuple[Provider, CuttingProxy]]:
    app = Provider()
    wrapped = flexmw.wrap_app(app, flexmw.Tagging(), flexmw.Envelope(), flexmw.Idempotency())
    with uvicorn_server(wrapped) as server:
        proxy = CuttingProxy(server.port)
        accepting = threading.Thread(target=proxy.run)
        accepting.start()
        try:
            yield app, proxy
        finally:
            proxy.close()
            accepting.join()


async def async_mistral_stream(url: str, http: Any) -> Any:
    sdk = mistralai.client.Mistral(api_key="k", server_url=url, async_client=http)
    return [event async for event in await sdk.chat.stream_async(model="m", messages=MESSAGES)]


async def async_groq_stream(url: str, http: Any) -> Any:
    sdk = groq.AsyncGroq(api_key="k", base_url=url, http_client=http, max_retries=0)
    return [chunk async for chunk in await sdk.chat.completions.create(model="m", messages=MESSAGES, stream=True)]


async def async_cohere_stream(url: str, http: Any) -> Any:
    sdk = cohere.AsyncClientV2(api_key="k", base_url=url, httpx_client=http)
    return [event async for event in sdk.chat_stream(model="m", messages=MESSAGES)]


async def async_genai_stream(url: str, http: Any) -> Any:
    options = genai.types.HttpOptions(base_url=url, httpx_async_client=http)
    sdk = genai.Client(api_key="k", http_options=options)
    parts = await sdk.aio.models.generate_content_stream(model="m", contents="hello")
    return [part.text async for part in parts]


def anthropic_stream(url: str, http: Any) -> Any:
    sdk = anthropic.Anthropic(api_key="k", base_url=url, http_client=http, max_retries=2)
    return list(sdk.messages.create(model="m", max_tokens=9, messages=MESSAGES, stream=True))


CALLS = [
    (openai_stream, httpx2),
    (openai_helper, httpx2),
    (anthropic_stream, httpx2),
    (anthropic_helper, httpx2),
    (mistral_stream, httpx2),
    (groq_stream, httpx),
    (cohere_stream, httpx),
    (genai_stream, httpx),
]
ASYNC_CALLS = [
    (async_openai_stream, httpx2),
    (async_anthropic_helper, httpx2),
    (async_mistral_stream, httpx2),
    (async_groq_stream, httpx),
    (async_cohere_stream, httpx),
    (async_genai_stream, httpx),
]


def places(seed: str, size: int) -> list[int]:
    """Where one stream is cut: once before its first byte, and at random."""
    chance = random.Random(seed)
    return [0, *(chance.randrange(max(1, size // 3)) for _ in range(4))]


@pytest.mark.parametrize(("call", "library"), CALLS, ids=[call.__name__ for call, _ in CALLS])
def test_an_sdk_reads_one_whole_stream_through_cuts(call: Callable[[str, Any], Any], library: Any) -> None:
    with served() as (app, proxy), client(library.Client, proxy.url) as http:
        whole = call(proxy.url, http)
        for turn in range(3):
            proxy.cuts = places(f"{call.__name__}{turn}", app.size)
            assert call(proxy.url, http) == whole
            proxy.cuts = []
        assert whole
        assert proxy.made >= 6
    assert app.executions == 4


@pytest.mark.parametrize(("call", "library"), ASYNC_CALLS, ids=[call.__name__ for call, _ in ASYNC_CALLS])
def test_an_async_sdk_reads_one_whole_stream_through_cuts(
    call: Callable[[str, Any], Awaitable[Any]], library: Any
) -> None:
    async def run(app: Provider, proxy: CuttingProxy) -> None:
        async with client(library.AsyncClient, proxy.url) as http:
            whole = await call(proxy.url, http)
            for turn in range(3):
                proxy.cuts = places(f"{call.__name__}{turn}", app.size)
                assert await call(proxy.url, http) == whole
                proxy.cuts = []
            assert whole

    with served() as (app, proxy):
        anyio.run(run, app, proxy)
        assert proxy.made >= 6
    assert app.executions == 4
