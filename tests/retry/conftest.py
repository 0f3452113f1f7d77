"""What every test of Retry can rely on."""

from __future__ import annotations

import time

import pytest

from flexmw.kit.log_limit import LogLimit
from flexmw.retry import log


@pytest.fixture(autouse=True)
def full_log_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test its own bound on WARNINGs: the tests before it in this process may have used the other one up."""
    monkeypatch.setattr(log, "LIMIT", LogLimit(burst=100, per_second=10.0, monotonic=time.monotonic))
