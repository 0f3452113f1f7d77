"""Both hosts with everything that fails, wrapped, on real sockets; started once for each worker process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

import flexmw
from tests.envelope.apps import fastapi_app, starlette_app
from tests.servers import ASGIApp, Served, granian_server, hypercorn_server, uvicorn_server

MAKERS = {"starlette": starlette_app, "fastapi": fastapi_app}


def wrapped(host: str) -> ASGIApp:
    """A host in the Envelope alone, patient enough for a busy machine and no more."""
    return flexmw.Envelope(max_wait=0.3).asgi(MAKERS[host]())


@pytest.fixture(scope="session")
def hosts() -> Iterator[dict[str, Served]]:
    """Each host's server."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(uvicorn_server(wrapped(name))) for name in MAKERS}


@pytest.fixture(scope="session")
def urls(hosts: dict[str, Served], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Both hosts under every server, by ``host-server``. Granian imports FastAPI twice before it is ready."""
    with ExitStack() as stack:
        granian = granian_server("tests.envelope.served:fastapi", tmp_path_factory.mktemp("granian"))
        yield {
            "fastapi-h11": hosts["fastapi"].url,
            "starlette-h11": hosts["starlette"].url,
            "fastapi-httptools": stack.enter_context(uvicorn_server(wrapped("fastapi"), http="httptools")).url,
            "fastapi-hypercorn": stack.enter_context(hypercorn_server(wrapped("fastapi"))).url,
            "starlette-hypercorn": stack.enter_context(hypercorn_server(wrapped("starlette"))).url,
            "fastapi-granian": stack.enter_context(granian).url,
        }
