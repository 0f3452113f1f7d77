"""A flow makes a response by itself: it is the same for the four transports, and values that cannot be are refused."""

from __future__ import annotations

import gzip
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import anyio
import httpx
import httpx2
import pytest

import flexmw
from flexmw.kit.built_response import is_built

LIBRARIES = [httpx, httpx2]
REQUEST = httpx.Request("GET", "https://api.test/")


@dataclass(frozen=True, kw_only=True)
class Always:
    """Responds to every request by itself."""

    name: ClassVar[str] = "acme.always"
    api: ClassVar[int] = 1
    order: ClassVar[flexmw.Order] = flexmw.Order()
    arguments: dict[str, Any] = field(default_factory=dict)

    def flow(self, request: flexmw.Request) -> Generator[Any, Any, flexmw.Response]:
        yield from flexmw.emit("acme.made", {})
        return flexmw.build_response(request, **self.arguments)


def refuse(request: Any) -> Any:
    raise AssertionError("nothing is sent")


ARGUMENTS = {
    "status_code": 203,
    "headers": [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("content-encoding", "gzip"), ("content-length", "9")],
    "body": gzip.compress(b"hello"),
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("components", [(), (flexmw.Tagging(), flexmw.Retry())], ids=["alone", "inside"])
def test_a_blocking_client_gets_it_like_any_other(library: Any, components: Any) -> None:
    client = flexmw.wrap_client(
        library.Client(transport=library.MockTransport(refuse)), *components, Always(arguments=ARGUMENTS)
    )
    with client, client.stream("GET", "https://api.test/") as response:
        assert not response.is_closed
        assert response.read() == b"hello"
    assert (response.status_code, response.headers.get_list("set-cookie")) == (203, ["a=1", "b=2"])
    assert response.headers.get_list("content-length") == [str(len(ARGUMENTS["body"]))]
    assert is_built(response)
    assert response.elapsed.total_seconds() >= 0


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_async_client_gets_it_like_any_other(library: Any) -> None:
    async def call() -> Any:
        client = library.AsyncClient(transport=library.MockTransport(refuse))
        async with flexmw.wrap_client(client, flexmw.Retry(), Always(arguments=ARGUMENTS)):
            return await client.get("https://api.test/")

    assert anyio.run(call).text == "hello"


def test_it_has_not_been_read() -> None:
    response: Any = flexmw.build_response(REQUEST, body=b"x")
    with pytest.raises(httpx.ResponseNotRead):
        _ = response.text
    assert response.request is REQUEST


def test_headers_of_a_response_are_taken_over_without_those_of_its_connection() -> None:
    headers = httpx2.Headers([("a", "1"), ("a", "2"), ("Transfer-Encoding", "chunked"), ("Connection", "close")])
    response: Any = flexmw.build_response(REQUEST, headers=headers)
    assert response.headers.multi_items() == [("a", "1"), ("a", "2"), ("content-length", "0")]


def test_the_length_of_a_response_without_a_body_is_kept() -> None:
    head: Any = flexmw.build_response(httpx.Request("HEAD", "https://api.test/"), headers={"content-length": "7"})
    assert head.headers["content-length"] == "7"
    assert "content-length" not in flexmw.build_response(REQUEST, 304).headers


def test_a_request_of_a_derived_class_has_its_librarys_response() -> None:
    class Mine(httpx2.Request):
        pass

    assert isinstance(flexmw.build_response(Mine("GET", "https://api.test/")), httpx2.Response)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"status_code": 101}, r"status_code=\.\.\.\) = 101: expected a status from 200 to 599"),
        ({"status_code": True}, "expected a status"),
        ({"body": "text"}, "expected bytes: encode a text"),
        ({"headers": {"age": 3}}, r"expected a mapping, or pairs such as"),
        ({"headers": ["age: 3"]}, "expected a mapping, or pairs"),
        ({"status_code": 204, "body": b"x"}, "1 bytes for a 204 to a GET.*expected no body"),
    ],
)
def test_values_that_cannot_be_are_refused(arguments: Any, words: str) -> None:
    with pytest.raises(flexmw.ConfigError, match=words):
        flexmw.build_response(REQUEST, **arguments)
    with pytest.raises(flexmw.ConfigError, match="the request that the flow was given"):
        flexmw.build_response("https://api.test/")  # type: ignore[arg-type]
