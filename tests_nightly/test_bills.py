"""The gateway bills what its backends have generated: see benchmarks/bills.py."""
# ruff: noqa: S101

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_thousand_streams_over_four_processes_are_billed_to_the_millionth() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bills"], cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
