"""Write a component of your own, for apps and clients: `python -m examples.custom_component`."""

from dataclasses import dataclass

import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import flexmw
from flexmw.testing import HostileServer, check_app, check_flow


@dataclass(frozen=True, kw_only=True)
class Stamp:
    name = "acme.stamp"
    api = 1
    order = flexmw.Order(after=("envelope",))  # inside the Envelope, where there is one
    by: str = "acme"  # an option: Stamp(by="...")

    def asgi(self, app: ASGIApp) -> ASGIApp:
        async def stamped(scope: Scope, receive: Receive, send: Send) -> None:
            async def stamping(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message = {**message, "headers": [*message.get("headers", ()), (b"x-stamp", self.by.encode())]}
                await send(message)

            await app(scope, receive, stamping)

        return stamped

    def flow(self, request: flexmw.Request) -> flexmw.Flow:
        request.headers["x-stamp"] = self.by
        return (yield from flexmw.send(request))


if __name__ == "__main__":
    check_app(Stamp())
    check_flow(Stamp())
    with HostileServer("200") as server, flexmw.wrap_client(httpx.Client(), Stamp(by="us")) as client:
        client.get(server.url)
        print("conforms; the server saw x-stamp:", server.requests[0].header("x-stamp"))
