"""Exceptions that are hard to read end in the contract on the server, and reach the caller unchanged on the client."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import httpx
import pytest
from starlette.exceptions import HTTPException

import flexmw
from flexmw import Envelope, Pace, Retry, Tagging
from tests.wire import call

COMPONENTS: list[tuple[Any, ...]] = [(), (Envelope(),), (Tagging(), Envelope())]


def raises(self: object, *_: object) -> NoReturn:
    raise RuntimeError("an attribute of the exception")


class EveryAttribute(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class Panic(BaseException):
    """An exception that is no ``Exception``, as extensions in Rust raise it."""


def odd(name: str, base: type[Exception] = Exception) -> type[Exception]:
    return type(f"Odd{name}", (base,), {name: property(raises) if name[:2] != "__" or "_c" in name else raises})


def group() -> BaseException:
    return BaseExceptionGroup("several", [Panic(), ValueError()])


class HTTPOdd(HTTPException):
    headers = property(raises, lambda self, value: None)  # type: ignore[assignment]


ODD: list[Callable[[], BaseException]] = [
    EveryAttribute,
    Panic,
    group,
    *(odd(name) for name in ("exceptions", "args", "__cause__", "__context__", "__str__", "__notes__", "status_code")),
]


@pytest.mark.anyio
@pytest.mark.parametrize("components", COMPONENTS, ids=len)
@pytest.mark.parametrize("make", ODD)
async def test_an_exception_that_cannot_be_read_is_a_500_of_the_contract_and_raised(
    make: Callable[[], BaseException], components: tuple[Any, ...]
) -> None:
    error = make()
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        await flexmw.wrap_app(app, *components)(scope, receive, send)
    assert caught.value is error
    assert [message.get("status") for message in sent] == [500, None]
    assert b'"internal_error"' in sent[1]["body"]


@pytest.mark.anyio
async def test_headers_that_cannot_be_read_do_not_change_the_status_of_an_exception() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise HTTPOdd(404, "No such thing.")

    assert (await call(flexmw.wrap_app(app, Envelope()))).error.message == "No such thing."


@pytest.mark.anyio
@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
async def test_a_group_with_an_end_of_the_program_gets_no_response(stop: BaseException) -> None:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise BaseExceptionGroup("several", [ValueError(), stop])

    async def send(message: Any) -> None:
        sent.append(message)

    with pytest.raises(BaseExceptionGroup):
        await flexmw.wrap_app(app, Envelope())({"type": "http", "path": "/", "headers": []}, None, send)  # type: ignore[arg-type]
    assert sent == []


@pytest.mark.parametrize("components", [(), (Tagging(), Envelope(), Retry(), Pace())], ids=len)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "make",
    [*ODD, *(partial(odd(name, httpx.ReadError), "lost") for name in ("args", "__cause__", "__context__"))],
    ids=lambda make: str(getattr(make, "__name__", make)),
)
def test_a_caller_gets_the_exception_of_the_transport_itself(
    make: Callable[[], BaseException], method: str, components: tuple[Any, ...]
) -> None:
    made: list[BaseException] = []

    def respond(request: httpx.Request) -> NoReturn:
        made.append(make())
        raise made[-1]

    client = flexmw.wrap_client(httpx.Client(transport=httpx.MockTransport(respond)), *components)
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        client.request(method, "http://api.example/", headers={"x-stainless-retry-count": "0"})
    assert any(caught.value is error for error in made)
