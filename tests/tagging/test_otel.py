"""What Tagging asks the OpenTelemetry API for while it serves requests."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from flexmw.tagging import Tagging


class CountingProvider(TracerProvider):
    tracers = 0

    def get_tracer(self, *args: Any, **options: Any) -> Any:
        self.tracers += 1
        return super().get_tracer(*args, **options)


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.anyio
@pytest.mark.parametrize("server_span", [False, True])
async def test_a_traced_app_without_metrics_makes_no_tracer_for_each_request(server_span: bool) -> None:
    provider = CountingProvider(shutdown_on_exit=False)
    tagged = Tagging(tracer_provider=provider, server_span=server_span).asgi(app)

    async def send(message: Any) -> None:
        pass

    counts: list[int] = []
    for _ in range(3):
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
        with provider.get_tracer("test").start_as_current_span("GET"):
            await tagged(scope, None, send)  # type: ignore[arg-type]
        counts.append(provider.tracers)
    assert counts[2] - counts[1] == 1, "the one of this test"
