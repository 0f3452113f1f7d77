"""The app's own words reach the client on every framework, and event streams open before they have an event."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Queue
from typing import Any

import httpx
import pytest

import flexmw
from tests.hosts.words_apps import FRAMEWORKS, TEXT
from tests.servers import ASGIApp, uvicorn_server
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Watched:
    """One framework's app on a server, and what it raised to the server for each request to ``/unlucky``."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.url = ""
        self.raised: Queue[type[BaseException] | None] = Queue()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raised: type[BaseException] | None = None
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            raised = type(error)
            raise
        finally:
            if scope.get("path") == "/unlucky":
                self.raised.put(raised)


@pytest.fixture(scope="module", params=FRAMEWORKS)
def apps(request: pytest.FixtureRequest) -> Iterator[tuple[Watched, Watched]]:
    """One framework, bare and under an Envelope."""
    make = FRAMEWORKS[request.param]
    bare, wrapped = Watched(make()), Watched(flexmw.Envelope(max_wait=0.5, hold=0.1).asgi(make()))
    with uvicorn_server(bare) as one, uvicorn_server(wrapped) as other:
        bare.url, wrapped.url = one.url, other.url
        yield bare, wrapped


def test_the_text_the_code_and_the_members_of_a_registered_handler_stay(apps: tuple[Watched, Watched]) -> None:
    response = httpx.get(f"{apps[1].url}/taken", timeout=LONGEST_WAIT)
    assert response.status_code == 409
    assert response.json() == {
        "error": {"message": TEXT, "type": "invalid_request_error", "code": "seat_taken", "seat": 12}
    }


def test_a_499_is_a_status_like_others(apps: tuple[Watched, Watched]) -> None:
    response = httpx.get(f"{apps[1].url}/closed", timeout=LONGEST_WAIT)
    assert response.status_code == 499
    assert response.json()["error"]["message"] == "The window closed early."


def test_the_crash_of_a_handler_is_raised_as_the_framework_raises_it(apps: tuple[Watched, Watched]) -> None:
    bare, wrapped = apps
    plain, response = (httpx.get(f"{app.url}/unlucky", timeout=LONGEST_WAIT) for app in apps)
    assert (plain.status_code, response.status_code) == (500, 500)
    assert response.json()["error"]["code"] == "internal_error"
    assert "template" not in response.text
    assert wrapped.raised.get(timeout=10) is bare.raised.get(timeout=10)


def test_an_event_stream_opens_before_its_first_event(apps: tuple[Watched, Watched]) -> None:
    url = apps[1].url
    with httpx.Client(timeout=10) as client, client.stream("GET", f"{url}/idle") as response:
        assert response.status_code == 200
        assert httpx.get(f"{url}/ring", timeout=LONGEST_WAIT).status_code == 200
        assert response.read() == b"data: rung\n\n"
