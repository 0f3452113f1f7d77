"""The same six things on every host: what each framework's users write, nothing of flexmw but the kinds they raise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import flexmw
from tests.servers import ASGIApp

SECRET = "sk-canary-0123456789abcdef"


def litestar() -> ASGIApp:
    from tests.hosts.litestar_app import make

    return make()


def quart() -> ASGIApp:
    from quart import Quart, request
    from werkzeug.datastructures import WWWAuthenticate
    from werkzeug.exceptions import BadRequest, NotFound, TooManyRequests, Unauthorized

    app = Quart("quart_host")

    @app.get("/ok")
    async def ok() -> str:
        return "fine"

    @app.get("/missing")
    async def missing() -> str:
        raise NotFound

    @app.get("/items/<item>/part")
    async def part(item: str) -> str:
        return "fine"

    @app.post("/validate")
    async def validate() -> str:
        if not isinstance((await request.get_json()).get("n"), int):
            raise BadRequest("n: Input should be a valid integer")
        return "fine"

    @app.get("/limited")
    async def limited() -> str:
        raise TooManyRequests("Slow down, please.", retry_after=7)

    @app.get("/challenge")
    async def challenge() -> str:
        raise Unauthorized("No token.", www_authenticate=WWWAuthenticate("bearer"))

    @app.get("/crash")
    async def crash() -> str:
        raise ValueError(SECRET)

    @app.get("/kind")
    async def kind() -> str:
        raise flexmw.ModelNotFound("foo", headers={"x-kind": "1"})

    @app.get("/kind-500")
    async def kind_500() -> str:
        raise flexmw.UpstreamTimeout()

    @app.get("/thread")
    def thread() -> str:
        raise flexmw.InsufficientCredit()

    return app  # type: ignore[return-value]


def django() -> ASGIApp:
    import django
    from django.conf import settings

    if not settings.configured:
        settings.configure(
            ROOT_URLCONF="tests.hosts.django_urls",
            ALLOWED_HOSTS=["*"],
            SECRET_KEY="k" * 50,
            LOGGING_CONFIG=None,
            MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        )
        django.setup()
    from django.core.asgi import get_asgi_application

    return get_asgi_application()  # type: ignore[return-value]


def falcon() -> ASGIApp:
    import falcon
    import falcon.asgi

    class Raises:
        def __init__(self, make: Callable[[], BaseException]) -> None:
            self.make = make

        async def on_get(self, request: Any, response: Any) -> None:
            raise self.make()

    class Ok:
        async def on_get(self, request: Any, response: Any) -> None:
            response.text = "fine"

    class Part:
        async def on_get(self, request: Any, response: Any, item: str) -> None:
            response.text = "fine"

    class Validate:
        async def on_post(self, request: Any, response: Any) -> None:
            if not isinstance((await request.get_media()).get("n"), int):
                raise falcon.HTTPInvalidParam("Input should be a valid integer.", "n")

    class Thread:
        async def on_get(self, request: Any, response: Any) -> None:
            await asyncio.to_thread(_raises_in_thread)

    app = falcon.asgi.App()
    app.add_route("/ok", Ok())
    app.add_route("/missing", Raises(falcon.HTTPNotFound))
    app.add_route("/items/{item}/part", Part())
    app.add_route("/validate", Validate())
    app.add_route(
        "/limited",
        Raises(lambda: falcon.HTTPTooManyRequests(description="Slow down, please.", retry_after=7)),
    )
    app.add_route("/crash", Raises(lambda: ValueError(SECRET)))
    app.add_route("/kind", Raises(lambda: flexmw.ModelNotFound("foo", headers={"x-kind": "1"})))
    app.add_route("/kind-500", Raises(flexmw.UpstreamTimeout))
    app.add_route("/thread", Thread())
    return app


def _raises_in_thread() -> None:
    raise flexmw.InsufficientCredit()


def blacksheep() -> ASGIApp:
    from tests.hosts.blacksheep_app import make

    return make()


HOSTS: dict[str, Callable[[], ASGIApp]] = {
    "litestar": litestar,
    "quart": quart,
    "django": django,
    "falcon": falcon,
    "blacksheep": blacksheep,
}
