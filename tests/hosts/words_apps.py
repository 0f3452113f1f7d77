"""The app's own words on every framework: registered handlers, one that crashes, a 499, and a stream that waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from tests.hosts.apps import django
from tests.servers import ASGIApp
from tests.waiting import LONGEST_WAIT

__all__ = ["FRAMEWORKS", "TEXT", "Bell", "SeatTakenError", "UnluckyError"]

TEXT = "Seat 12 is taken until noon."


class SeatTakenError(Exception):
    """Each framework has a handler for it: 409 with the text of the exception."""


class UnluckyError(Exception):
    """Each framework has a handler for it, and the handler crashes."""


class Bell:
    """What the client does after it has got the head of the stream: the stream waits for it."""

    def __init__(self) -> None:
        self._rung: asyncio.Event | None = None

    def _event(self) -> asyncio.Event:
        if self._rung is None:  # made in the server's loop
            self._rung = asyncio.Event()
        return self._rung

    def ring(self) -> str:
        self._event().set()
        return "rung"

    async def events(self) -> AsyncIterator[bytes]:
        async with asyncio.timeout(LONGEST_WAIT):
            await self._event().wait()
        yield b"data: rung\n\n"


def body(error: Exception) -> dict[str, Any]:
    return {"detail": str(error), "code": "seat_taken", "seat": 12}


def starlette() -> ASGIApp:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Route

    bell = Bell()

    async def taken(request: Request) -> Response:
        raise SeatTakenError(TEXT)

    async def unlucky(request: Request) -> Response:
        raise UnluckyError

    async def closed(request: Request) -> Response:
        raise HTTPException(499, "The window closed early.")

    async def idle(request: Request) -> Response:
        return StreamingResponse(bell.events(), media_type="text/event-stream")

    async def ring(request: Request) -> Response:
        return PlainTextResponse(bell.ring())

    async def on_taken(request: Request, error: Exception) -> Response:
        return JSONResponse(body(error), 409)

    async def on_unlucky(request: Request, error: Exception) -> Response:
        raise RuntimeError("the template is gone")

    return Starlette(
        routes=[
            Route(f"/{name}", endpoint)
            for name, endpoint in {
                "taken": taken, "unlucky": unlucky, "closed": closed, "idle": idle, "ring": ring,
            }.items()
        ],
        exception_handlers={SeatTakenError: on_taken, UnluckyError: on_unlucky},
    )  # fmt: skip


def fastapi() -> ASGIApp:
    from fastapi import FastAPI, HTTPException
    from starlette.responses import JSONResponse, StreamingResponse

    app, bell = FastAPI(), Bell()

    @app.get("/taken")
    async def taken() -> None:
        raise SeatTakenError(TEXT)

    @app.get("/unlucky")
    async def unlucky() -> None:
        raise UnluckyError

    @app.get("/closed")
    async def closed() -> None:
        raise HTTPException(499, "The window closed early.")

    @app.get("/idle")
    async def idle() -> Any:
        return StreamingResponse(bell.events(), media_type="text/event-stream")

    @app.get("/ring")
    async def ring() -> str:
        return bell.ring()

    @app.exception_handler(SeatTakenError)
    async def on_taken(request: Any, error: SeatTakenError) -> Any:
        return JSONResponse(body(error), 409)

    @app.exception_handler(UnluckyError)
    async def on_unlucky(request: Any, error: UnluckyError) -> Any:
        raise RuntimeError("the template is gone")

    return app


def litestar() -> ASGIApp:
    from litestar import Litestar, Response, get
    from litestar.exceptions import HTTPException
    from litestar.response import Stream

    bell = Bell()

    @get("/taken")
    async def taken() -> None:
        raise SeatTakenError(TEXT)

    @get("/unlucky")
    async def unlucky() -> None:
        raise UnluckyError

    @get("/closed")
    async def closed() -> None:
        raise HTTPException("The window closed early.", status_code=499)

    @get("/idle")
    async def idle() -> Any:
        return Stream(bell.events(), media_type="text/event-stream")

    @get("/ring")
    async def ring() -> str:
        return bell.ring()

    def on_taken(request: Any, error: SeatTakenError) -> Any:
        return Response(body(error), status_code=409)

    def on_unlucky(request: Any, error: UnluckyError) -> Any:
        raise RuntimeError("the template is gone")

    return Litestar(
        [taken, unlucky, closed, idle, ring],
        exception_handlers={SeatTakenError: on_taken, UnluckyError: on_unlucky},
        logging_config=None,
    )  # type: ignore[return-value]


def quart() -> ASGIApp:
    from quart import Quart, Response

    app, bell = Quart("words_host"), Bell()

    @app.get("/taken")
    async def taken() -> str:
        raise SeatTakenError(TEXT)

    @app.get("/unlucky")
    async def unlucky() -> str:
        raise UnluckyError

    @app.get("/closed")
    async def closed() -> tuple[str, int]:
        return "The window closed early.", 499

    @app.get("/idle")
    async def idle() -> Response:
        return Response(bell.events(), mimetype="text/event-stream")

    @app.get("/ring")
    async def ring() -> str:
        return bell.ring()

    @app.errorhandler(SeatTakenError)
    async def on_taken(error: Exception) -> tuple[dict[str, Any], int]:
        return body(error), 409

    @app.errorhandler(UnluckyError)
    async def on_unlucky(error: Exception) -> str:
        raise RuntimeError("the template is gone")

    return app  # type: ignore[return-value]


def falcon() -> ASGIApp:
    import falcon
    import falcon.asgi

    bell = Bell()

    class Taken:
        async def on_get(self, request: Any, response: Any) -> None:
            raise SeatTakenError(TEXT)

    class Unlucky:
        async def on_get(self, request: Any, response: Any) -> None:
            raise UnluckyError

    class Closed:
        async def on_get(self, request: Any, response: Any) -> None:
            raise falcon.HTTPError(499, description="The window closed early.")

    class Idle:
        async def on_get(self, request: Any, response: Any) -> None:
            response.content_type = "text/event-stream"
            response.stream = bell.events()

    class Ring:
        async def on_get(self, request: Any, response: Any) -> None:
            response.text = bell.ring()

    async def on_taken(request: Any, response: Any, error: Exception, params: Any) -> None:
        response.status, response.media = 409, body(error)

    async def on_unlucky(request: Any, response: Any, error: Exception, params: Any) -> None:
        raise RuntimeError("the template is gone")

    app = falcon.asgi.App()
    resources: dict[str, Any] = {
        "taken": Taken(), "unlucky": Unlucky(), "closed": Closed(), "idle": Idle(), "ring": Ring(),
    }  # fmt: skip
    for name, resource in resources.items():
        app.add_route(f"/{name}", resource)
    app.add_error_handler(SeatTakenError, on_taken)
    app.add_error_handler(UnluckyError, on_unlucky)
    return app


def blacksheep() -> ASGIApp:
    from tests.hosts.blacksheep_words import make

    return make()


FRAMEWORKS: dict[str, Callable[[], ASGIApp]] = {
    "starlette": starlette,
    "fastapi": fastapi,
    "litestar": litestar,
    "quart": quart,
    "django": django,
    "falcon": falcon,
    "blacksheep": blacksheep,
}
