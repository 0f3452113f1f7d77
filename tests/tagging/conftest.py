"""The real SDK, in memory, for one test at a time; nothing global is set."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tagging.sdk import Signals


@pytest.fixture
def signals() -> Iterator[Signals]:
    with Signals() as signals:
        yield signals
