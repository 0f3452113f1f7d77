"""What a framework must do on a server, under the components. A check is a function that raises where it does not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import anyio
import httpx
from mcp import Client
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from flexmw.contract import OWN, ErrorBody
from tests.waiting import LONGEST_WAIT
from tests_hosts.work import SECRET

__all__ = ["BARE_CHECKS", "CHECKS", "MCP_HOSTS", "Check", "Site"]

MCP_HOSTS: Final = ("mcp", "fastmcp")
_MEBIBYTE: Final = 1024 * 1024
_MCP_HEADERS: Final = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
_names = itertools.count()


@dataclass(frozen=True)
class Site:
    """A framework that is being served.

    :param host: its name in ``HOSTS``.
    :param url: without a slash at the end.
    :param http2: whether the client speaks HTTP/2.
    :param bare: whether it is served without the components.
    """

    host: str
    url: str
    http2: bool
    bare: bool

    def client(self) -> httpx.Client:
        """A client with a credential of its own, so that no check uses the limits of another one."""
        headers = {"authorization": f"Bearer sk-check-{next(_names):08d}"}
        return httpx.Client(
            base_url=self.url, headers=headers, http1=not self.http2, http2=self.http2, timeout=LONGEST_WAIT,
            trust_env=False,
        )  # fmt: skip

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send one request on a connection of its own."""
        with self.client() as client:
            return client.request(method, path, **options)


def _error(response: httpx.Response, status: int, code: str | None = None) -> ErrorBody:
    """The error of a response in the contract's format."""
    assert response.status_code == status, f"{response.status_code} instead of {status}: {response.text[:200]}"
    error = ErrorBody.decode(response.content)
    assert error is not None, f"not in the contract's format: {response.text[:200]}"
    assert code in (None, error.code), f"code {error.code}"
    assert response.headers["x-request-id"]
    assert SECRET not in response.text
    return error


def responds(site: Site) -> None:
    response = site.request("GET", "/ok")
    assert (response.status_code, response.text) == (200, "fine"), f"{response.status_code}: {response.text[:200]}"
    assert site.request("HEAD", "/ok").content == b""
    assert site.request("GET", "/ok").status_code == 200, "the second time"


def bodies(site: Site) -> None:
    sent = b"x" * _MEBIBYTE
    assert site.request("POST", "/size", content=sent).text == str(_MEBIBYTE)
    pieces = (sent[start : start + 65536] for start in range(0, _MEBIBYTE, 65536))
    assert site.request("POST", "/size", content=pieces).text == str(_MEBIBYTE), "sent in chunks"


def unknown_route(site: Site) -> None:
    assert _error(site.request("GET", "/nowhere"), 404, "unknown_url").message == OWN["unknown_url"].message


def wrong_method(site: Site) -> None:
    response = site.request("DELETE", "/ok")
    _error(response, 405, "method_not_allowed")
    assert "GET" in response.headers["allow"]


def malformed_json(site: Site) -> None:
    response = site.request("POST", "/work", content=b"{", headers={"content-type": "application/json"})
    # Starlette leaves reading JSON to the endpoint, and the Envelope knows the decoder's error. The view of Django has
    # words of its own.
    _error(response, 400, "invalid_request" if site.host == "django" else "invalid_json")


def failed_validation(site: Site) -> None:
    _error(site.request("POST", "/work", json={"n": "x"}), 422 if site.host == "fastapi" else 400)


def own_429(site: Site) -> None:
    response = site.request("GET", "/busy")
    assert _error(response, 429, "rate_limit_exceeded").message == "Slow down, please."
    assert response.headers["retry-after"] == "7"


def raised_kind(site: Site) -> None:
    assert _error(site.request("GET", "/kind"), 400, "model_not_found").param == "model"


def crash(site: Site) -> None:
    _error(site.request("GET", "/crash"), 500, "internal_error")


def limits(site: Site) -> None:
    with site.client() as client:
        first, second = client.get("/once"), client.get("/once")
    assert (first.status_code, first.headers["x-ratelimit-remaining-requests"]) == (200, "0")
    _error(second, 429, "rate_limit_exceeded")
    assert int(second.headers["retry-after"]) > 0


def keyed_post(site: Site) -> None:
    headers = {"idempotency-key": "order-1"}
    with site.client() as client:
        responses = [client.post("/work", json={"n": 1}, headers=headers) for _ in range(2)]
        other = client.post("/work", json={"n": 2}, headers=headers)
    first, second = (response.json() for response in responses)
    assert first["n"] == 1
    assert first == second, "executed twice"
    assert responses[1].headers["idempotent-replayed"] == "true"
    _error(other, 422)


def stream(site: Site) -> None:
    with site.client() as client, client.stream("GET", "/events") as response:
        assert response.status_code == 200
        received = response.iter_raw()
        assert next(received) == b"data: one\n\n"
        site.request("GET", "/ring")
        assert b"".join(received) == b"data: two\n\n"


def broken_stream(site: Site) -> None:
    response = site.request("GET", "/broken")
    first, *others = response.text.split("\n\n")
    assert first == "data: one"
    assert "internal_error" in others[0], response.text
    assert SECRET not in response.text


def websocket(site: Site) -> None:
    with connect(f"{site.url.replace('http', 'ws', 1)}/echo", open_timeout=LONGEST_WAIT, proxy=None) as socket:
        for text in ("one", "two" * 50_000):
            socket.send(text)
            assert socket.recv(timeout=LONGEST_WAIT) == text


def refused_websocket(site: Site) -> None:
    try:
        with connect(f"{site.url.replace('http', 'ws', 1)}/refuse", open_timeout=LONGEST_WAIT, proxy=None) as socket:
            socket.recv(timeout=LONGEST_WAIT)
    except InvalidStatus as refusal:
        status, headers = refusal.response.status_code, dict(refusal.response.headers.raw_items())
        kept = {name: value for name, value in headers.items() if name.lower() in ("content-type", "x-request-id")}
        _error(httpx.Response(status, headers=kept, content=bytes(refusal.response.body or b"")), 403)
    except ConnectionClosed as closed:
        raise AssertionError(f"accepted, then closed with {closed.rcvd and closed.rcvd.code}") from closed


def tools(site: Site) -> None:
    async def run() -> None:
        async with Client(f"{site.url}/mcp") as client:
            result = await client.call_tool("add", {"a": 2, "b": 3})
            content: Any = result.content[0]
            assert content.text == "5"
            assert (await client.call_tool("fail", {})).is_error

    anyio.run(run)
    response = site.request("POST", "/mcp", content=b"{", headers=_MCP_HEADERS)
    assert response.status_code == 400
    assert response.json()["jsonrpc"] == "2.0", "an error of JSON-RPC"


Check = Callable[[Site], None]
CHECKS: Final[Mapping[str, Check]] = {
    "requests": responds,
    "large bodies": bodies,
    "404": unknown_route,
    "405": wrong_method,
    "malformed JSON": malformed_json,
    "validation": failed_validation,
    "the app's own 429": own_429,
    "raised kinds": raised_kind,
    "crashes": crash,
    "limits": limits,
    "keyed POSTs": keyed_post,
    "streams": stream,
    "broken streams": broken_stream,
    "websockets": websocket,
    "refused websockets": refused_websocket,
    "MCP tools": tools,
}
"""By the words that the page uses. ``lifespan`` comes in addition: it is over only when the server is."""

BARE_CHECKS: Final = frozenset({"requests", "large bodies", "streams", "websockets", "lifespan"})
"""Checks of what the framework and the server do by themselves."""
