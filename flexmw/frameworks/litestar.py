"""Litestar: components around ``app.asgi_handler``, with a lifespan of their own.

Litestar runs its lifespan outside of ``asgi_handler``, and components open and close their stores by it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flexmw.errors import ConfigError
from flexmw.frameworks.interior import Interior

__all__ = ["put"]


def put(app: Any, interior: Interior, layers: ASGIApp) -> None:
    """Put the components around the handler of a Litestar app, and their lifespan into that of the app.

    Their lifespan begins last and ends first: what they end with the app still uses what the app has opened.

    :raises ConfigError: the app keeps its lifespan managers elsewhere than Litestar 2.
    """
    managers = getattr(app, "_lifespan_managers", None)
    if not isinstance(managers, list):
        raise ConfigError("install(app)", app, "an app of Litestar 2; for this one: served = flexmw.wrap_app(app)")
    handler: ASGIApp = app.asgi_handler

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await handler(scope, receive, send)
            return
        for stage in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{stage}.complete"})

    managers.append(_lifespan_of(layers))
    interior.app, app.asgi_handler = handle, layers


def _lifespan_of(layers: ASGIApp) -> Any:
    """A lifespan manager that runs the ASGI lifespan of the components."""

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncGenerator[None]:
        started, stopping = anyio.Event(), anyio.Event()
        kinds = iter(("lifespan.startup", "lifespan.shutdown"))
        errors: list[Exception] = []

        async def receive() -> Message:
            kind = next(kinds)
            if kind == "lifespan.shutdown":
                await stopping.wait()
            return {"type": kind}

        async def send(message: Message) -> None:
            if message["type"].endswith(".failed"):
                errors.append(RuntimeError(f"{message['type']}: {message.get('message', '')}"))
            started.set()

        async def run() -> None:
            try:
                await layers({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
            except Exception as error:
                errors.append(error)
            finally:
                started.set()

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await started.wait()
            if not errors:
                try:
                    yield
                except Exception as error:  # raised below: the task group would raise a group of it
                    errors.append(error)
                finally:
                    stopping.set()
        if errors:
            raise errors[0]

    return lifespan
