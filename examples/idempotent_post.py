"""Execute a POST once, however often a client sends it: `python -m examples.idempotent_post`."""

import asyncio
from itertools import count

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import flexmw

numbers = count(1)


async def charge(request: Request) -> JSONResponse:
    return JSONResponse({"charge": next(numbers)}, status_code=201)


app = flexmw.install(
    Starlette(routes=[Route("/charges", charge, methods=["POST"])]),
    flexmw.Envelope(),
    flexmw.Idempotency(required=True),  # storage="sqlite:///keys.db" survives a restart
)


async def main() -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        for key, amount in (("k-1", 5), ("k-1", 5), ("k-1", 7), ("k-2", 5), (None, 5)):
            headers = {"idempotency-key": key} if key else {}
            response = await client.post("/charges", json={"amount": amount}, headers=headers)
            replayed = response.headers.get("idempotent-replayed", "false")
            print(f"key {key}, amount {amount}: {response.status_code}, replayed: {replayed}")
    print("charges:", next(numbers) - 1)


if __name__ == "__main__":
    asyncio.run(main())
