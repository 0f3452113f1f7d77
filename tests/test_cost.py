"""What a request without faults costs, in executed bytecodes: a guard that no load of a machine moves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

Costs = dict[tuple[str, str], int]

PLAIN: Final = {
    "httpx": 18_169,
    "httpx async": 22_731,
    "httpx2": 15_791,
    "httpx2 async": 18_544,
    "GET": 839,
    "POST": 839,
}
"""What the request alone executes on Python 3.11."""

ADDED: Final = {
    ("httpx", "Retry"): 916,
    ("httpx", "Tagging and Retry"): 975,
    ("httpx", "Pace"): 4_761,
    ("httpx async", "Retry"): 1_001,
    ("httpx async", "Tagging and Retry"): 1_060,
    ("httpx async", "Pace"): 4_796,
    ("httpx2", "Retry"): 916,
    ("httpx2", "Tagging and Retry"): 975,
    ("httpx2", "Pace"): 4_924,
    ("httpx2 async", "Retry"): 974,
    ("httpx2 async", "Tagging and Retry"): 1_033,
    ("httpx2 async", "Pace"): 4_946,
    ("GET", "Envelope"): 417,
    ("GET", "RateLimit on memory"): 639,
    ("GET", "Idempotency, no key"): 51,
    ("GET", "Tagging without an SDK"): 41,
    ("GET", "all components"): 1_040,
    ("POST", "Envelope"): 417,
    ("POST", "RateLimit on memory"): 639,
    ("POST", "Idempotency, no key"): 424,
    ("POST", "Tagging without an SDK"): 41,
    ("POST", "all components"): 1_304,
}
"""What the components add to it on Python 3.11. A change that costs more raises its row, and says why in its commit;
``python -m benchmarks.cost --profile GROUP NAME`` shows where the bytecodes go."""

MARGIN: Final = 1.03
MARGIN_OF_RATIOS: Final = 1.15
"""Other versions of Python have other bytecodes. The added ones stay about the same share of the plain ones."""


@pytest.fixture(scope="module")
def costs() -> Costs:
    """Counted in a process of its own: no coverage, no plugin of pytest, nothing that another test has left."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cost", "--json"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return {(group, name): cost for group, name, cost in json.loads(done.stdout)}


@pytest.mark.parametrize(("group", "name"), ADDED, ids=[", ".join(path) for path in ADDED])
def test_a_request_without_faults_costs_what_the_table_says(costs: Costs, group: str, name: str) -> None:
    plain = costs[group, "plain"]
    added, bound = costs[group, name] - plain, ADDED[group, name]
    if sys.version_info[:2] == (3, 11):
        assert added <= bound * MARGIN
    else:
        assert added / plain <= bound / PLAIN[group] * MARGIN_OF_RATIOS


def test_every_path_is_in_the_table(costs: Costs) -> None:
    unbounded = {"plain", "a trace callback"}
    assert {path for path in costs if path[1] not in unbounded} == set(ADDED)
