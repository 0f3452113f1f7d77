"""An async function of the application that takes long is logged while it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from starlette.types import ASGIApp

import flexmw
from flexmw.kit import app_function
from flexmw.kit.app_function import finished
from flexmw.kit.log_limit import LogLimit
from tests.app_calls import call, responding
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_function, "SLOW_SECONDS", 0.01)
    monkeypatch.setattr(app_function, "_limit", LogLimit(burst=5, per_second=0, monotonic=lambda: 0.0))


OPTIONS: dict[str, Callable[[Any], Any]] = {
    "RateLimit(limit=...)": lambda f: flexmw.RateLimit(limit=f),
    "RateLimit(tokens=...)": lambda f: flexmw.RateLimit(tokens=f, token_cost=1),
    "RateLimit(cost=...)": lambda f: flexmw.RateLimit("5/minute", cost=f),
    "RateLimit(token_cost=...)": lambda f: flexmw.RateLimit(tokens="5/minute", token_cost=f),
    "RateLimit(key=...)": lambda f: flexmw.RateLimit("5/minute", key=f),
    "RateLimit(exempt=...)": lambda f: flexmw.RateLimit("5/minute", exempt=f),
    "Idempotency(caller=...)": lambda f: flexmw.Idempotency(caller=f),
    "Idempotency(authenticated=...)": lambda f: flexmw.Idempotency(authenticated=f),
    "Idempotency(exempt=...)": lambda f: flexmw.Idempotency(exempt=f),
    "Idempotency(required=...)": lambda f: flexmw.Idempotency(required=f),
}
RESULTS = {"limit": "5/minute", "tokens": "5/minute", "cost": 1, "token_cost": 1, "key": "me", "caller": "me"}


@pytest.mark.parametrize("option", OPTIONS)
async def test_a_function_that_takes_long_is_named_while_it_runs(option: str, caplog: pytest.LogCaptureFixture) -> None:
    component, _, name = option.partition("(")
    result = RESULTS.get(name.partition("=")[0], True)

    async def ask_the_database(*_: object) -> Any:
        await logged.wait()
        return result

    app: ASGIApp = OPTIONS[option](ask_the_database).asgi(responding())
    keyed = [] if "required" in option else [("idempotency-key", "k")]
    with heard(f"flexmw.{component.lower()}") as logged, anyio.fail_after(LONGEST_WAIT):
        await call(app, method="POST", headers=keyed)
    message = caplog.records[-1].message
    assert message.startswith(f"{option} has waited 0.01 seconds for the function ")
    assert "ask_the_database of the app" in message
    assert message.endswith("The request waits on.")  # and nothing of lines that were left out


async def test_a_function_that_is_over_in_time_or_raises_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def returns() -> int:
        return 3

    async def raises() -> None:
        await anyio.lowlevel.checkpoint()
        raise KeyError("no")

    async def takes_long() -> None:
        await logged.wait()

    assert await finished(returns(), "RateLimit(limit=...)") == 3
    with pytest.raises(KeyError):
        await finished(raises(), "RateLimit(limit=...)")
    with heard("flexmw.ratelimit") as logged, anyio.fail_after(LONGEST_WAIT):
        await finished(takes_long(), "RateLimit(limit=...)")  # its timer is the last one: the others were cancelled
    assert ["takes_long of the app" in record.message for record in caplog.records] == [True]


@contextmanager
def heard(logger: str) -> Generator[anyio.Event]:
    """An event that the first line of a logger sets."""
    event = anyio.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            event.set()

    handler = Handler()
    logging.getLogger(logger).addHandler(handler)
    try:
        yield event
    finally:
        logging.getLogger(logger).removeHandler(handler)
