"""``flexmw`` itself: its version, its help, and its exit codes."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import flexmw
from flexmw.cli import main
from tests.waiting import LONGEST_WAIT

FULL = Path("/dev/full")


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_versions_are_shown(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([option])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"flexmw {flexmw.__version__} (Python {platform.python_version()})\n"


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    for command in ("run", "check", "explain", "plugins", "keys", "schema", "--version"):
        assert f"  {command}" in shown.out or f", {command}" in shown.out


def test_a_command_that_does_not_exist_is_a_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["serve"])
    assert end.value.code == 2
    assert "invalid choice: 'serve'" in capsys.readouterr().err


def run_into(output: int) -> tuple[int, str]:
    command = [sys.executable, "-m", "flexmw", "schema"]
    done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, timeout=LONGEST_WAIT, check=False)
    return done.returncode, done.stderr


@pytest.mark.skipif(not FULL.exists(), reason="the system has no /dev/full")
def test_an_output_that_cannot_be_written_is_named() -> None:
    with FULL.open("w") as output:
        assert run_into(output.fileno()) == (2, "flexmw: standard output cannot be written: No space left on device\n")


def test_a_pipe_whose_reader_has_left_ends_a_command_as_it_ends_others() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        assert run_into(write) == (141, "")
    finally:
        os.close(write)
