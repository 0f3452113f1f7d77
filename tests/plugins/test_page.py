"""docs/plugins.md, followed to the letter: its files are written, its commands run, their output compared."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.plugins.conftest import ROOT, Environment, clean_environ
from tests.servers import skip_unless

PAGE = ROOT / "docs" / "plugins.md"
README = sorted(ROOT.glob("plugins/*/README.md"))

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Step:
    """A command and what the page says that it prints."""

    command: str
    output: list[str] = field(default_factory=list)


def steps(console: str) -> Iterator[Step]:
    step: Step | None = None
    for line in console.splitlines():
        if line.startswith("$ "):
            if step is not None:
                yield step
            step = Step(line[2:])
        elif step is not None:
            step.output.append(line)
    if step is not None:
        yield step


def matches(expected: list[str], printed: str) -> bool:
    """``...`` alone on a line stands for any lines, elsewhere for any text."""
    pattern = "\n".join(".*" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") for line in expected)
    return re.fullmatch(pattern.replace(".*\n", "(?:.*\n)?"), printed.strip(), re.DOTALL) is not None


def test_the_page_does_what_it_says(environment: Environment, lent: Path, tmp_path: Path) -> None:
    skip_unless(shutil.which("bash"), "bash")
    wheels, folder = tmp_path / "wheels", tmp_path / "acme-stamp"
    folder.mkdir()
    environment.run("pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(ROOT))
    environ = clean_environ(PIP_FIND_LINKS=str(wheels), PYTHONPATH=str(lent), PATH=os.environ["PATH"])
    tutorial = PAGE.read_text().partition("## The declaration")[0]
    ran = 0
    for kind, text in BLOCK.findall(tutorial):
        if kind != "console":
            name = re.match(r"# (\S+)\n", text)
            assert name is not None, f"a file without a name: {text[:40]!r}"
            folder.joinpath(name[1]).write_text(text)
            continue
        for step in steps(text):
            activate = ". .venv/bin/activate; " if folder.joinpath(".venv").exists() else ""
            done = subprocess.run(
                ["bash", "-c", activate + step.command],
                cwd=folder,
                env=environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=300,
                check=False,
            )
            assert matches(step.output, done.stdout), f"$ {step.command}\n{done.stdout}"
            assert (done.returncode == 0) is ("Traceback" not in "".join(step.output)), done.stdout
            ran += 1
    assert ran >= 9


def test_the_comparison_can_fail() -> None:
    assert matches(["...", "2 passed in ..."], "..  [100%]\n2 passed in 0.1s\n")
    assert matches([], "")
    assert not matches(["...", "2 passed in ..."], "1 failed, 1 passed in 0.1s\n")
    assert not matches([], "WARNING\n")


@pytest.mark.parametrize("readme", README, ids=lambda path: path.parent.name)
def test_the_examples_of_each_readme_run(environment: Environment, readme: Path) -> None:
    blocks = [text for kind, text in BLOCK.findall(readme.read_text()) if kind == "python"]
    assert blocks
    prelude = "async def app(scope, receive, send): ...\n"
    environment.run("python", "-W", "error", "-c", prelude + "\n".join(blocks))
