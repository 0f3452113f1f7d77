"""``flexmw`` itself: its version, its help, and its exit codes."""

from __future__ import annotations

import platform

import pytest

import flexmw
from flexmw.cli import main


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
