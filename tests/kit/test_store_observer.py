"""The observer of store operations is set for a request only where a store of this process reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from flexmw import Idempotency, RateLimit, Tagging, limit
from flexmw.kit import store_observer


@pytest.fixture(autouse=True)
def _no_store_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_observer, "reports_expected", False)


def observed_by_tagging() -> bool:
    """Whether Tagging sets the observer for a request."""
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(store_observer.observer.get() is not None)

    async def run() -> None:
        provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        await Tagging(meter_provider=provider).asgi(app)(scope, None, None)  # type: ignore[arg-type]

    anyio.run(run)
    return seen == [True]


@pytest.mark.parametrize(
    "make",
    [lambda: RateLimit("1/minute"), lambda: limit("1/minute"), Idempotency],
    ids=["RateLimit", "limit", "Idempotency"],
)
def test_a_store_in_memory_needs_no_observer(make: Callable[[], object]) -> None:
    make()
    assert not store_observer.reports_expected
    assert not observed_by_tagging()


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: RateLimit("1/minute", storage="redis://127.0.0.1:1"),
        lambda folder: limit("1/minute", storage="redis://127.0.0.1:1", on_store_failure="local"),
        lambda folder: Idempotency(storage=f"sqlite:///{folder}/keys.db"),
    ],
    ids=["RateLimit", "limit", "Idempotency"],
)
def test_requests_are_observed_as_soon_as_a_component_has_another_store(
    make: Callable[[Path], object], tmp_path: Path
) -> None:
    make(tmp_path)
    assert observed_by_tagging()
