"""What the log says of a store that is lost and comes back, without an OpenTelemetry SDK."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import flexmw
from flexmw.kit.store_log import Fallback, StoreLog
from flexmw.testing import FakeClock
from flexmw.testing.hostile.ports import HOST
from tests.servers import (
    Child,
    memcached_binary,
    memcached_process,
    redis_binary,
    redis_process,
    skip_unless,
)
from tests.stores import client_of, counting_app
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio

PASSWORD = "hunter2-of-the-store"
LINES = {
    "RateLimit": "RateLimit decided 5 requests in this process alone",
    "RateLimit open": "RateLimit let 5 requests pass",
    "RateLimit closed": "RateLimit refused 5 requests with 503",
    "RateLimit memcached": "RateLimit decided 5 requests in this process alone",
    "Idempotency": "Idempotency refused 5 requests with 503",
    "Idempotency run": "Idempotency ran 5 requests without protection",
    "Idempotency sqlite": "Idempotency refused 5 requests with 503",
    "Pace": "Pace gave 5 turns in this process alone",
}
"""The components and their stores, and what they say about the five requests of the outage."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def redis_of(folder: Path) -> Generator[Child]:
    skip_unless(redis_binary(), "redis-server")
    with redis_process(str(redis_binary()), folder) as child:
        yield child


@contextmanager
def memcached_of(folder: Path) -> Generator[Child]:
    skip_unless(memcached_binary(), "memcached")
    with memcached_process(str(memcached_binary()), folder) as child:
        yield child


class Outage:
    """A store that a test ends and brings back."""

    def __init__(self, name: str, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        if name == "Idempotency sqlite":
            self.url, self._file = f"sqlite:///{folder}/keys.db", folder / "keys.db"
            return
        run, self._hello = (memcached_of, b"version") if name.endswith("memcached") else (redis_of, b"PING")
        self._child = stack.enter_context(run(folder))
        scheme = self._child.url.partition(":")[0]
        # The user "default" of a redis without passwords accepts any password.
        user = f"default:{PASSWORD}@" if scheme == "redis" else ""
        self.url = f"{scheme}://{user}{HOST}:{self._child.port}"

    def begin(self) -> None:
        if self.url.startswith("sqlite"):
            self._lock = sqlite3.connect(self._file, isolation_level=None)
            self._lock.execute("begin exclusive")
        else:
            self._child.kill()

    def end(self) -> None:
        if self.url.startswith("sqlite"):
            self._lock.execute("rollback")
            self._lock.close()
        else:
            self._stack.enter_context(self._child.restarted(self._folder, self._hello))


Ask = Callable[[int], Awaitable[int]]


@asynccontextmanager
async def requests_of(name: str, url: str, clock: FakeClock) -> AsyncGenerator[Ask]:
    """A function that sends one request through the component, and returns the status of the response."""
    component, _, option = name.partition(" ")
    app, _ = counting_app()
    if component == "Pace":
        seen = {"x-ratelimit-limit-requests": "900", "x-ratelimit-remaining-requests": "800"}
        seen["x-ratelimit-reset-requests"] = "60"
        transport = httpx.MockTransport(lambda request: httpx.Response(200, headers=seen))
        paced = flexmw.wrap_client(httpx.AsyncClient(transport=transport), flexmw.Pace(storage=url, clock=clock))
        async with paced:
            yield lambda number: _status(paced.get("http://limited.example/"))
        return
    # A server that is gone refuses connections at once. A file that is locked is waited for.
    store_timeout = 0.5 if url.startswith("sqlite") else LONGEST_WAIT
    options: dict[str, Any] = {"storage": url, "clock": clock, "store_timeout": store_timeout}
    if component == "Idempotency":
        options |= {"on_store_failure": option} if option == "run" else {}
        wrapped = flexmw.wrap_app(app, flexmw.Idempotency(**options))
    else:
        options |= {"on_store_failure": option} if option in ("open", "closed") else {}
        options |= {"strategy": "fixed-window"} if option == "memcached" else {}
        wrapped = flexmw.wrap_app(app, flexmw.RateLimit("100/minute", **options))
    async with client_of(wrapped) as client:
        yield lambda number: _status(client.post("/", headers={"idempotency-key": f"k{number}"}))
    await _shut_down(wrapped)


async def _shut_down(app: Any) -> None:
    """Run the lifespan of an app, so that its components close their connections."""
    messages = [{"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}]

    async def receive() -> dict[str, Any]:
        return messages.pop()

    async def send(message: Any) -> None:
        assert message["type"] in ("lifespan.startup.complete", "lifespan.shutdown.complete"), message

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)


async def _status(response: Awaitable[httpx.Response]) -> int:
    return (await response).status_code


@pytest.mark.parametrize("name", LINES)
async def test_an_outage_of_a_store_leaves_two_lines(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    with ExitStack() as stack:
        outage = Outage(name, tmp_path, stack)
        caplog.set_level(logging.INFO)
        async with requests_of(name, outage.url, clock) as ask:
            assert await ask(0) == 200
            caplog.clear()  # a new sqlite file is named once
            outage.begin()
            statuses = {await ask(number) for number in range(1, 6)}
            assert statuses == ({503} if "refused" in LINES[name] else {200})
            outage.end()
            clock.advance(61.5)
            assert [await ask(number) for number in range(6, 9)] == [200] * 3
    logger = f"flexmw.{name.partition(' ')[0].lower()}"
    records = [record for record in caplog.records if record.name != "httpx"]
    lines = [(record.name, record.levelname) for record in records]
    assert lines == [(logger, "WARNING"), (logger, "INFO")], caplog.text
    lost, back = (record.getMessage() for record in records)
    assert lost.startswith("The store ")
    assert "Error: " in lost
    assert lost.endswith(" until it responds.")
    assert "responds again, after 61.5 s. " in back
    assert back.endswith(f"{LINES[name]}.")
    assert PASSWORD not in caplog.text


async def test_the_limiters_of_one_store_share_the_two_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "flexmw.ratelimit")
    clock = FakeClock()
    with ExitStack() as stack:
        outage = Outage("RateLimit", tmp_path, stack)
        app, _ = counting_app()
        options: dict[str, Any] = {"storage": outage.url, "clock": clock, "store_timeout": LONGEST_WAIT}
        limits = [flexmw.RateLimit(f"{rate}/hour", **options) for rate in (90, 80)]
        wrapped = flexmw.wrap_app(app, *limits)
        async with client_of(wrapped) as client:
            assert (await client.post("/")).status_code == 200
            outage.begin()
            assert [(await client.post("/")).status_code for _ in range(3)] == [200] * 3
            outage.end()
            clock.advance(11.0)
            assert (await client.post("/")).status_code == 200
        await _shut_down(wrapped)
    records = [record for record in caplog.records if record.name == "flexmw.ratelimit"]
    assert [record.levelname for record in records] == ["WARNING", "INFO"]


# --- the lines, by a fake clock --------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def log(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> StoreLog:
    caplog.set_level(logging.INFO, "flexmw.pace")
    return StoreLog("flexmw.pace", "shown", Fallback("No store", "{count} alone"), monotonic=clock.monotonic)


def test_errors_that_change_during_an_outage_are_one_line(log: StoreLog, caplog: pytest.LogCaptureFixture) -> None:
    for error in (ConnectionError("refused"), TimeoutError(), OSError("reset"), Exception("LOADING the dataset")):
        log.lost(error)
    assert caplog.messages == ["The store shown fails: ConnectionError: refused. No store."]


def test_a_store_that_now_refuses_the_client_is_one_more_line(log: StoreLog, caplog: pytest.LogCaptureFixture) -> None:
    log.lost(ConnectionError("refused"))
    for _ in range(3):
        log.lost(Exception("WRONGPASS invalid username-password pair"))
        log.lost(ConnectionError("refused"))
    assert len(caplog.messages) == 2
    assert "refuses the user name or password (WRONGPASS)" in caplog.messages[1]


def test_a_store_that_comes_and_goes_is_written_about_once_in_ten_seconds(
    log: StoreLog, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        log.lost(ConnectionError("refused"))
        log.back()
        clock.advance(1.0)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"] * 2


@pytest.mark.parametrize("seconds", [2, 12])
def test_a_store_that_is_still_lost_after_a_second_is_written_about(
    seconds: int, log: StoreLog, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    log.lost(ConnectionError("refused"))
    log.back()
    caplog.clear()
    for _ in range(seconds):
        clock.advance(1.0)
        log.lost(ConnectionError("refused"))
        log.decided_locally()
    log.back()
    assert caplog.messages == [
        "The store shown fails: ConnectionError: refused. No store.",
        f"The store shown responds again, after {seconds - 1}.0 s. {seconds} alone.",
    ]


def test_a_secret_in_the_text_of_an_error_is_not_written(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    fallback = Fallback("No store", "")
    log = StoreLog("flexmw.pace", "shown", fallback, monotonic=clock.monotonic, secrets=("topsecret",))
    log.lost(OSError("no route to postgres://app:hunter2@db/keys with topsecret"))
    assert caplog.messages == ["The store shown fails: OSError: no route to postgres://***@db/keys with ***. No store."]


def test_a_request_that_is_decided_while_the_store_works_is_not_counted(
    log: StoreLog, caplog: pytest.LogCaptureFixture
) -> None:
    log.decided_locally()
    log.back()
    log.lost(ConnectionError("refused"))
    log.back()
    assert caplog.messages[-1].endswith("0 alone.")
