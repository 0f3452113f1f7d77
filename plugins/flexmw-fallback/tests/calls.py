"""Hostile servers behind one client, and one call through it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anyio
import httpx
import httpx2
from flexmw_fallback import Fallback, Upstream

import flexmw
from flexmw.testing import FakeClock, HostileServer

CLIENTS = [(httpx, False), (httpx, True), (httpx2, False), (httpx2, True)]
IDS = ["httpx", "httpx-async", "httpx2", "httpx2-async"]
PATIENCE = 30.0
"""Seconds that a busy machine may take for a response."""
SHORT = 1.0
"""Seconds after which a response that never comes is given up."""
TWO = [CLIENTS[0], CLIENTS[3]]
"""One blocking client and one async client, for what does not depend on the library."""


@dataclass
class Result:
    """What a call led to: a response that was read whole, or an error."""

    response: Any = None
    error: Any = None

    @property
    def outcome(self) -> Any:
        return flexmw.outcome_of(self.error if self.response is None else self.response)


@dataclass
class Upstreams:
    """Two or more hostile servers behind one client."""

    servers: list[HostileServer]
    clock: FakeClock

    def fallback(self, *options_of_upstreams: dict[str, Any], **options: Any) -> Fallback:
        given = [*options_of_upstreams, *({} for _ in self.servers)]
        upstreams = [Upstream(f"{server.url}/v1", **own) for server, own in zip(self.servers, given, strict=False)]
        return Fallback(*upstreams, clock=self.clock, **options)

    def wrap(self, client: Any, fallback: Fallback, retry: flexmw.Retry | None = None) -> Any:
        retry = flexmw.Retry(clock=self.clock) if retry is None else retry
        return flexmw.wrap_client(client, fallback, retry, clock=self.clock)

    @property
    def executions(self) -> list[int]:
        return [server.executions for server in self.servers]

    @property
    def seen(self) -> list[int]:
        """How many requests each server has seen, executed or not."""
        return [len(server.requests) for server in self.servers]


def call(
    upstreams: Upstreams,
    fallback: Fallback,
    kind: tuple[Any, bool] = (httpx, False),
    *,
    retry: flexmw.Retry | None = None,
    method: str = "POST",
    backend: str = "asyncio",
    url: str | None = None,
    client: dict[str, Any] | None = None,
    **request: Any,
) -> Result:
    """One call through a client of its own, read whole."""
    library, is_async = kind
    url = f"{upstreams.servers[0].url}/v1/jobs" if url is None else url
    if method == "POST" and not {"content", "json", "data", "files"} & set(request):
        request["json"] = {"model": "m", "n": 1}
    # Without TLS no certificate is checked, and loading the public ones is the slowest part of a test.
    options = {"timeout": PATIENCE, "verify": False, **(client or {})}
    result = Result()

    def blocking() -> None:
        with upstreams.wrap(library.Client(**options), fallback, retry) as wrapped:
            result.response = wrapped.request(method, url, **request)

    async def waiting() -> None:
        async with upstreams.wrap(library.AsyncClient(**options), fallback, retry) as wrapped:
            result.response = await wrapped.request(method, url, **request)

    try:
        if is_async:
            anyio.run(waiting, backend=backend)
        else:
            blocking()
    except Exception as error:
        result.error = error
    return result
