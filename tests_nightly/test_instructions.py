"""Machine instructions of a request, counted by valgrind: they see what bytecodes do not, the functions written in C.
Not collected by default: ``pytest tests_nightly``. Needs ``valgrind`` on the PATH."""
# ruff: noqa: S101, S603

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.bounds import INSTRUCTIONS, MARGIN_OF_RATIOS
from tests.servers import skip_unless

Counts = dict[tuple[str, str], float]

GROUP = "POST on memory"


@pytest.fixture(scope="module")
def counts() -> Counts:
    skip_unless(shutil.which("valgrind"), "valgrind")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cost", "--instructions", "--json", GROUP],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=1_800,
    )
    assert done.returncode == 0, done.stderr
    return {(group, name): count for group, name, count in json.loads(done.stdout)}


@pytest.mark.parametrize("path", INSTRUCTIONS, ids=[", ".join(path) for path in INSTRUCTIONS])
def test_a_request_executes_no_more_instructions_than_its_bound(counts: Counts, path: tuple[str, str]) -> None:
    group, name = path
    plain = counts[group, "plain"]
    share, bound = (counts[path] - plain) / plain, INSTRUCTIONS[path]
    assert share <= bound * MARGIN_OF_RATIOS, (
        f"{group}, {name}: {share:.3f} of the plain request's instructions are added, bound {bound}. "
        f"python -m benchmarks.cost --instructions '{group}' '{name}'"
    )
