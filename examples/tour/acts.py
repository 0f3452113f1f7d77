"""Playing a scene and writing down what happened: on the wire, in the SDK, at the backend, on the span."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Queue
from typing import Any

import openai
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

import flexmw
from examples.gateway.serve import Backend, Running
from examples.tour.scenes import Scene

__all__ = ["Note", "Spans", "play"]

SHOWN = ("retry-after", "www-authenticate", "x-ratelimit-remaining-requests")
REFUSED = ("retry-after", *(f"x-ratelimit-{what}-requests" for what in ("limit", "remaining", "reset")))


@dataclass(frozen=True, kw_only=True)
class Note:
    """What happened in one scene."""

    status: int
    type: str
    code: str
    message: str
    param: str | None
    request_id: str | None
    headers: tuple[str, ...]
    raised: str
    worked: int
    waited: float
    span: str

    @property
    def sent(self) -> tuple[int, str, str, str | None]:
        return self.status, self.type, self.code, self.param


class Spans(SpanExporter):
    """The spans of the API, as they end: a little after the client has its response."""

    def __init__(self) -> None:
        self.ended: Queue[ReadableSpan] = Queue()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self))
        trace.set_tracer_provider(provider)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            said = span.attributes or {}
            path = str(said.get("url.path", said.get("http.target", "")))
            if span.kind is trace.SpanKind.SERVER and path.startswith("/v1/"):
                self.ended.put(span)
        return SpanExportResult.SUCCESS

    def next(self) -> str:
        """The next server span in one line: its status and what flexmw wrote on it."""
        span = self.ended.get(timeout=10)
        written = span.attributes or {}
        words = [
            f"{name}={written[f'flexmw.error.{name}']}"
            for name in ("type", "code")
            if f"flexmw.error.{name}" in written
        ]
        if result := written.get("flexmw.rate_limiting.result"):
            words.append(f"limiter={result}")
        return "\n".join([span.status.status_code.name, *words])


def play(scene: Scene, running: Running, backend: Backend, spans: Spans, *, use_async: bool) -> Note:
    """Play a scene with a key of its own."""
    key, _ = running.admin.create_key(tier=scene.tier, credit=scene.credit)
    headers = {name: value.format(id=secrets.token_hex(4)) for name, value in scene.headers}
    options: dict[str, Any] = {
        "api_key": scene.key or key,
        "base_url": f"{running.url}/v1",
        "max_retries": 0,
        "default_headers": headers,
    }
    run = _asynchronous if use_async else _blocking
    with scene.before(running):
        for _ in range(scene.repeat):
            run(options, lambda sdk: sdk.models.list())
            spans.next()
        backend.forget()
        began = time.monotonic()
        error = run(options, scene.call)
        waited = time.monotonic() - began
    if (error is None) == scene.fails:
        raise RuntimeError(f"{scene.row}, {scene.what}: not what the contract says: {error!r}")
    return _note(error, worked=sum(backend.work().values()), waited=waited, span=spans.next())


def _blocking(options: dict[str, Any], call: Callable[[Any], Any]) -> openai.APIStatusError | None:
    http = flexmw.wrap_client(openai.DefaultHttpxClient(), flexmw.Retry(max_retry_after=2.0))
    with openai.OpenAI(**options, http_client=http) as sdk:
        try:
            call(sdk)
        except openai.APIStatusError as error:
            return error
    return None


def _asynchronous(options: dict[str, Any], call: Callable[[Any], Any]) -> openai.APIStatusError | None:
    async def run() -> openai.APIStatusError | None:
        http = flexmw.wrap_client(openai.DefaultAsyncHttpxClient(), flexmw.Retry(max_retry_after=2.0))
        async with openai.AsyncOpenAI(**options, http_client=http) as sdk:
            try:
                await call(sdk)
            except openai.APIStatusError as error:
                return error
        return None

    return asyncio.run(run())


def _note(error: openai.APIStatusError | None, **measured: Any) -> Note:
    if error is None:
        return Note(
            status=200, type="", code="", message="", param=None, request_id=None, headers=(), raised="", **measured
        )
    sent = error.response.headers
    return Note(
        status=error.status_code,
        type=str(error.type),
        code=str(error.code),
        message=error.message,
        param=error.param,
        request_id=error.request_id,
        headers=tuple(
            f"{name}: {sent[name]}" for name in (REFUSED if error.status_code == 429 else SHOWN) if name in sent
        ),
        raised=type(error).__name__,
        **measured,
    )
