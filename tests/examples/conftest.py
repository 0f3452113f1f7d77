from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import httpx2
import openai
import pytest

from examples.gateway.serve import Backend, Running, backend, gateway
from tests.waiting import LONGEST_WAIT

TLS = ssl.create_default_context()  # nothing here is encrypted, but making one per client takes longer than a call


@pytest.fixture(scope="session")
def models() -> Iterator[Backend]:
    """The model backend in a process of its own."""
    with backend() as running:
        yield running


@pytest.fixture(scope="session")
def http() -> Iterator[httpx2.Client]:
    """For requests that an SDK would not send."""
    with httpx2.Client(verify=TLS, timeout=LONGEST_WAIT) as client:
        yield client


@pytest.fixture
def work(models: Backend) -> Backend:
    """The same backend, its count of work at zero."""
    models.forget()
    return models


@pytest.fixture(params=["asyncio"], scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """uvicorn and redis-py know asyncio only."""
    return str(request.param)


@pytest.fixture(scope="session")
def _gateway(models: Backend) -> Iterator[Running]:
    with gateway(models.url) as running:
        yield running


@pytest.fixture
def running(_gateway: Running, work: Backend) -> Running:
    """A gateway with its state in sqlite. Every test makes keys of its own."""
    return _gateway


class Caller:
    """The openai SDK in both colours, with one key, at one URL. `work` gets the client and gives what it returns."""

    def __init__(self, colour: str, url: str, key: str) -> None:
        self.colour, self.url, self.key = colour, url, key

    def __call__(self, work: Callable[[Any], Any], *, max_retries: int = 0, **options: Any) -> Any:
        options = {"base_url": f"{self.url}/v1", "api_key": self.key, "max_retries": max_retries, **options}
        if self.colour == "sync":
            with openai.OpenAI(http_client=openai.DefaultHttpxClient(verify=TLS), **options) as client:
                return work(client)

        async def call() -> Any:
            http_client = openai.DefaultAsyncHttpxClient(verify=TLS)
            async with openai.AsyncOpenAI(http_client=http_client, **options) as client:
                return await work(client)

        return anyio.run(call)

    def error(self, work: Callable[[Any], Any], **options: Any) -> openai.APIStatusError:
        """The error of a call that must fail."""
        with pytest.raises(openai.APIStatusError) as caught:
            self(work, **options)
        return caught.value


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def account(running: Running) -> tuple[str, str]:
    """A new key of the paid tier, and the id of its account."""
    return running.admin.create_key()


@pytest.fixture
def caller(colour: str, running: Running, account: tuple[str, str]) -> Caller:
    return Caller(colour, running.url, account[0])
