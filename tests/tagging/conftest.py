"""The real SDK, in memory, for one test at a time; nothing global is set.

Where a test fails and a library is installed in another version than the one that ``flexmw.tagging.instruments`` was
checked with, the report says so. Another version alone is no failure.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from importlib.util import find_spec

import pytest

from flexmw.tagging.instruments import CHECKED_WITH
from tests.tagging.sdk import Signals
from tests.tagging.versions import differences

collect_ignore = [] if find_spec("logfire") else ["test_logfire.py"]
"""It has an environment of its own (``tox run -e logfire``)."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and (notes := differences(CHECKED_WITH)):
        report.sections.append(("versions of instruments", "\n".join(notes)))
    return report


@pytest.fixture
def signals() -> Iterator[Signals]:
    with Signals() as signals:
        yield signals


@pytest.fixture
def stable_conventions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instrumentations write the stable semantic conventions of HTTP, and not the old ones."""
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
