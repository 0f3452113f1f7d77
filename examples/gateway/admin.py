"""The administrator's switches: keys and credit, what is offline, and the clock. All amounts in millionths of a dollar.

POST   /admin/keys                    {"tier": "paid", "credit": 5000000}     a new key, shown this once
GET    /admin/accounts/{id}
POST   /admin/accounts/{id}/credit    {"amount": 1000000}                     top up
DELETE /admin/accounts/{id}                                                   revoke its key
PUT    /admin/offline/{subsystem}                                             a model id, or "playground"
DELETE /admin/offline/{subsystem}
POST   /admin/clock                   {"seconds": 86400}                      let the video jobs grow old
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from secrets import compare_digest
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

import flexmw
from examples.gateway.accounts import DOLLAR, TIERS
from examples.gateway.fields import Fields

if TYPE_CHECKING:
    from examples.gateway.app import Gateway

__all__ = ["admin_routes"]

Endpoint = Callable[[Request], Awaitable[Response]]


class Admin:
    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    async def create_key(self, request: Request) -> Response:
        fields = Fields.read(await request.body(), flexmw.InvalidRequest)
        tier = fields.text("tier", "free", among=TIERS)
        credit = fields.whole("credit", DOLLAR, least=0, most=1_000 * DOLLAR)
        key, account = await self.gateway.accounts.create(tier=tier, credit=credit)
        return JSONResponse({"key": key, **asdict(account)}, 201)

    async def show(self, request: Request) -> Response:
        return await self._account(request)

    async def top_up(self, request: Request) -> Response:
        amount = Fields.read(await request.body(), flexmw.InvalidRequest).whole("amount", most=1_000 * DOLLAR)
        await self._account(request)
        await self.gateway.accounts.top_up(request.path_params["id"], amount)
        return await self._account(request)

    async def revoke(self, request: Request) -> Response:
        await self._account(request)
        await self.gateway.accounts.revoke(request.path_params["id"])
        return await self._account(request)

    async def switch(self, request: Request) -> Response:
        subsystem, online = request.path_params["subsystem"], request.method == "DELETE"
        try:
            await self.gateway.catalogue.switch(subsystem, online=online)
        except ValueError as exc:
            raise flexmw.InvalidRequest(str(exc)) from None
        return JSONResponse({"subsystem": subsystem, "online": online})

    async def move_clock(self, request: Request) -> Response:
        fields = Fields.read(await request.body(), flexmw.InvalidRequest)
        self.gateway.clock.move(fields.whole("seconds", most=10_000_000))
        return JSONResponse({"now": self.gateway.clock()})

    def guarded(self, endpoint: Endpoint) -> Endpoint:
        async def guard(request: Request) -> Response:
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            expected = self.gateway.settings.admin_token
            if scheme.lower() != "bearer" or not compare_digest(token.encode(), expected.encode()):
                raise flexmw.InvalidAPIKey(message="Invalid administrator token provided.")
            return await endpoint(request)

        return guard

    async def _account(self, request: Request) -> Response:
        account = await self.gateway.accounts.get(request.path_params["id"])
        if account is None:
            raise flexmw.APIError("There is no such account.", status=404)
        return JSONResponse(asdict(account))


def admin_routes(gateway: Gateway) -> Mount:
    admin = Admin(gateway)
    table: list[tuple[str, str, Endpoint]] = [
        ("POST", "/keys", admin.create_key),
        ("GET", "/accounts/{id}", admin.show),
        ("POST", "/accounts/{id}/credit", admin.top_up),
        ("DELETE", "/accounts/{id}", admin.revoke),
        ("PUT", "/offline/{subsystem}", admin.switch),
        ("DELETE", "/offline/{subsystem}", admin.switch),
        ("POST", "/clock", admin.move_clock),
    ]
    return Mount("/admin", routes=[Route(path, admin.guarded(do), methods=[method]) for method, path, do in table])
