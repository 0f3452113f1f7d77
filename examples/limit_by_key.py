"""Limit requests per API key: `python -m examples.limit_by_key`, or `uvicorn examples.limit_by_key:app`."""

from __future__ import annotations

import asyncio

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import flexmw


async def hello(request: Request) -> JSONResponse:
    return JSONResponse({"hello": "world"})


app = flexmw.install(
    Starlette(routes=[Route("/", hello)]),
    flexmw.Envelope(),
    flexmw.RateLimit("2/minute", "1000/day"),  # per bearer token; storage="redis://..." counts for many processes
)


async def main() -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        for key in ("sk-ann", "sk-ann", "sk-ann", "sk-bob"):
            response = await client.get("/", headers={"authorization": f"Bearer {key}"})
            remaining = response.headers["x-ratelimit-remaining-requests"]
            print(key, response.status_code, f"{remaining} left")
            if response.status_code == 429:
                print("  retry after a minute or less:", 0 < int(response.headers["retry-after"]) <= 60)


if __name__ == "__main__":
    asyncio.run(main())
