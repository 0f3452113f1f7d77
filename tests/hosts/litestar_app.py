"""The errors on Litestar."""

from __future__ import annotations

from typing import Any

from litestar import Litestar, get, post
from litestar.exceptions import NotFoundException, TooManyRequestsException
from litestar.params import JSONBody
from pydantic import BaseModel

import flexmw
from tests.servers import ASGIApp

SECRET = "sk-canary-0123456789abcdef"


class Order(BaseModel):
    n: int


def make(**options: Any) -> ASGIApp:
    @get("/ok", sync_to_thread=False)
    def ok() -> str:
        return "fine"

    @get("/missing", sync_to_thread=False)
    def missing() -> None:
        raise NotFoundException

    @get("/items/{item:str}/part", sync_to_thread=False)
    def part(item: str) -> str:
        return "fine"

    @post("/validate")
    async def validate(data: JSONBody[Order]) -> None: ...

    @get("/limited")
    async def limited() -> None:
        raise TooManyRequestsException("Slow down, please.", headers={"Retry-After": "7"})

    @get("/crash")
    async def crash() -> None:
        raise ValueError(SECRET)

    @get("/kind")
    async def kind() -> None:
        raise flexmw.ModelNotFound("foo", headers={"x-kind": "1"})

    @get("/kind-500")
    async def kind_500() -> None:
        raise flexmw.UpstreamTimeout()

    @get("/thread", sync_to_thread=True)
    def thread() -> None:
        raise flexmw.InsufficientCredit()

    handlers = [ok, missing, part, validate, limited, crash, kind, kind_500, thread]
    return Litestar(handlers, logging_config=None, **options)  # type: ignore[return-value]
