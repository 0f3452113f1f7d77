"""The app of the review, with the whole stack around it. The environment names its stores.

``HOSTILE_STORE`` is the store of the keys, ``HOSTILE_LIMITS`` that of the limits, ``HOSTILE_LOG`` a file to which each
execution appends a line.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Literal

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.background import BackgroundTask

import flexmw

__all__ = ["INTERNAL", "LEASE", "app", "of_process", "served"]

INTERNAL = "internal host db-7.corp"
"""A text that stands in every exception of this app. No response may have it."""

LEASE = 2.0
LOG = os.environ.get("HOSTILE_LOG", os.devnull)
FILE = Path(__file__).with_name("table.py")


class Left(BaseModel):
    kind: Literal["left"]


class Right(BaseModel):
    kind: Literal["right"]


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")
    amount: int
    side: Annotated[Left | Right, Field(discriminator="kind")] | None = None
    table: dict[str, int] | None = None
    checked: str | None = None

    @field_validator("checked")
    @classmethod
    def refuse(cls, value: str) -> str:
        raise ValueError(f"bad value {value}")


app = FastAPI()


def executed(request: Request) -> int:
    """Write down that a request is carried out; the number tells executions of one key apart."""
    number = int.from_bytes(os.urandom(4), "big")
    line = f"{request.headers.get('idempotency-key', '-')} {number}\n"
    log = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(log, line.encode())
    finally:
        os.close(log)
    return number


@app.get("/ping")
async def ping() -> Response:
    return PlainTextResponse("pong")


@app.post("/work")
async def work(request: Request) -> Response:
    """The work takes a moment, so that duplicates and kills meet it."""
    number = executed(request)
    await request.body()
    await asyncio.sleep(0.01)
    return JSONResponse({"run": number})


@app.post("/orders")
async def orders(order: Order) -> Response:
    return JSONResponse({"amount": order.amount})


@app.api_route("/status/{status}", methods=["GET", "POST", "PATCH"])
async def answer(request: Request, status: int) -> Response:
    run = executed(request) if request.method != "GET" else 0
    if status in (204, 205, 304):
        return Response(status_code=status)
    headers = {"vary": "accept", "x-app": "1", "x-api-key": "lent-to-nobody"}
    response = JSONResponse({"run": run}, status, headers=headers)
    response.set_cookie("session", "lent-to-nobody")
    return response


@app.api_route("/file", methods=["GET", "POST", "PATCH"])
async def file(request: Request) -> Response:
    executed(request)
    return FileResponse(FILE)


@app.api_route("/background", methods=["POST", "PATCH"])
async def background(request: Request, broken: bool = False) -> Response:
    async def after() -> None:
        if broken:
            raise RuntimeError(INTERNAL)

    return JSONResponse({"run": executed(request)}, background=BackgroundTask(after))


@app.api_route("/stream", methods=["GET", "POST", "PATCH"])
async def stream(
    request: Request, parts: int = 5, size: int = 10, pause: float = 0.0, broken: bool = False, events: bool = False
) -> Response:
    executed(request)

    async def body() -> AsyncIterator[str]:
        for number in range(parts):
            if broken and number == parts // 2:
                raise RuntimeError(INTERNAL)
            await asyncio.sleep(pause)
            text = "x" * size
            yield f"data: {number} {text}\n\n" if events else text

    return StreamingResponse(body(), media_type="text/event-stream" if events else "text/plain")


@app.api_route("/crash", methods=["GET", "POST"])
async def crash() -> Response:
    raise RuntimeError(INTERNAL)


@app.get("/kinds/{kind}")
async def kinds(kind: Literal["missing", "broke", "limited"]) -> Response:
    errors: dict[str, flexmw.APIError] = {
        "missing": flexmw.ModelNotFound("foo"),
        "broke": flexmw.APIError("no funds", status=402, type="insufficient_quota", code="402"),
        "limited": flexmw.RateLimitExceeded(retry_after=2.0),
    }
    raise errors[kind]


@app.get("/text")
async def text(piece: str, size: int, status: int = 400) -> Response:
    return PlainTextResponse(("x" + piece * size)[:size], status)


@app.get("/limited")
async def limited() -> Response:
    return PlainTextResponse("passed")


@app.get("/statistics")
async def statistics() -> Response:
    """Memory in bytes, file descriptors and tasks of this process, after a collection."""
    gc.collect()
    return JSONResponse({**of_process(), "tasks": len(asyncio.all_tasks())})


def of_process() -> dict[str, int]:
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {"pid": os.getpid(), "rss": resident, "descriptors": len(list(Path("/proc/self/fd").iterdir()))}


served = flexmw.wrap_app(
    app,
    flexmw.Tagging(),
    flexmw.Envelope(),
    flexmw.RateLimit(
        "1000000000/minute",
        limit={"/limited": "20/second"},
        storage=os.environ.get("HOSTILE_LIMITS", "memory://"),
        concurrency=1000,
        prefix="hostile",
    ),
    flexmw.Idempotency(
        storage=os.environ.get("HOSTILE_STORE", "memory://"),
        sdk_retries=True,
        lease=LEASE,
        store_timeout=10.0,  # a slow disk is no fault of this review: with two seconds it refused two calls of 8,000
        ttl=float(os.environ.get("HOSTILE_TTL", "3600")),
    ),
)
