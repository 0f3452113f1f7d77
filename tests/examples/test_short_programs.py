"""The short examples: each is one screen, and prints what its readers expect."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PRINTED = {
    "limit_by_key": """\
sk-ann 200 1 left
sk-ann 200 0 left
sk-ann 429 0 left
  retry after a minute or less: True
sk-bob 200 1 left
""",
    "idempotent_post": """\
key k-1, amount 5: 201, replayed: false
key k-1, amount 5: 201, replayed: true
key k-1, amount 7: 422, replayed: false
key k-2, amount 5: 201, replayed: false
key None, amount 5: 400, replayed: false
charges: 2
""",
    "safe_openai_client": """\
429:seconds=1  as it is answered: chatcmpl-1                   executions: 1
429:seconds=1  wrapped  answered: chatcmpl-1                   executions: 1
rst            as it is lost: nothing is known of the work     executions: 3
rst            wrapped  lost: ambiguous                        executions: 1
""",
    "custom_component": """\
conforms; the server saw x-stamp: us
""",
}


@pytest.mark.parametrize("name", PRINTED)
def test_a_short_example_prints_what_it_says(name: str) -> None:
    command = [sys.executable, "-W", "error", "-m", f"examples.{name}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == PRINTED[name]


def test_every_short_example_is_tested_and_has_at_most_40_lines() -> None:
    programs = {path.stem: path for path in ROOT.glob("examples/*.py") if path.stem != "__init__"}
    assert set(programs) == set(PRINTED)
    assert {name: count for name, path in programs.items() if (count := len(path.read_text().splitlines())) > 40} == {}
