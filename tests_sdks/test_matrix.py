"""Every SDK under every fault: how often the server executed the POST, and what the caller got.

The table of the results is ``docs/sdks.md``; ``python -m tests_sdks.page`` writes it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests_sdks.calls import ASYNC, BLOCKING
from tests_sdks.page import FAULTS, Result, page, run

RESULTS: dict[tuple[str, str, str], Result] = {}
CASES = [(side, name) for side, calls in (("blocking", BLOCKING), ("async", ASYNC)) for name in calls]

pytestmark = pytest.mark.filterwarnings("default")  # of the SDKs: not ours to mend


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("side", "name"), CASES, ids=["-".join(case) for case in CASES])
def test_a_post_is_executed_once_and_recovered_where_that_is_safe(side: str, name: str, fault: str) -> None:
    result = RESULTS[side, name, fault] = run(side, name, fault)
    assert result.executions == 1
    assert (result.error is None) is FAULTS[fault].recovers
    if result.outcome is not None:
        assert result.outcome == "ambiguous"


def test_the_page_in_the_docs_is_what_was_measured() -> None:
    if len(RESULTS) != len(CASES) * len(FAULTS):
        pytest.fail("run all tests of this file together: the page holds all results")
    written = Path("docs/sdks.md").read_text("utf-8")
    assert written == page(RESULTS), "run: python -m tests_sdks.page > docs/sdks.md"
