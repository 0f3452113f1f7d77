"""Every example of ``docs/testing.md`` passes in a project of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.waiting import LONGEST_WAIT

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(?:py|toml)\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_examples_of_the_page_pass(tmp_path: Path) -> None:
    files = dict(BLOCK.findall(ROOT.joinpath("docs/testing.md").read_text("utf-8")))
    for name, text in files.items():
        tmp_path.joinpath(name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LONGEST_WAIT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tests = sum(text.count("\ndef test_") for text in files.values())
    assert f"{tests} passed" in done.stdout
    assert sorted(files) == [
        "main.py",
        "pyproject.toml",
        "test_executions.py",
        "test_hostile_server.py",
        "test_mock_transport.py",
        "test_orders.py",
        "test_pytest_httpx.py",
        "test_respx.py",
    ]
