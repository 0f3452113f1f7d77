"""An app that records the requests that reach it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass
class Recorder:
    """Records when each request arrived, and the status of its response."""

    app: ASGIApp
    arrivals: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noting(message: Message) -> None:
            if scope["type"] == "http" and message["type"] == "http.response.start":
                self.statuses.append(message["status"])
            await send(message)

        if scope["type"] == "http":
            self.arrivals.append(time.monotonic())
        await self.app(scope, receive, noting)

    @property
    def windows(self) -> int:
        """How many windows of a second, each beginning with an arrival, hold all of them."""
        ends, number = 0.0, 0
        for at in self.arrivals:
            if at >= ends:
                ends, number = at + 1.0, number + 1
        return number
