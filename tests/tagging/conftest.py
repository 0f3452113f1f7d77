"""The real SDK, in memory, for one test at a time; nothing global is set."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.tagging.sdk import Signals

collect_ignore = [] if find_spec("logfire") else ["test_logfire.py"]
"""It has an environment of its own (``tox run -e logfire``)."""


@pytest.fixture
def signals() -> Iterator[Signals]:
    with Signals() as signals:
        yield signals
