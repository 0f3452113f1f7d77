"""A fresh virtual environment with flexmw and the plugins of this repository, built and installed by pip; no network.

What they depend on is lent by the environment that runs the tests: all that is installed there, but flexmw itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def clean_environ(**more: str) -> dict[str, str]:
    """The process environment without what would let the checkout in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_", "FLEXMW"))}
    return {**kept, **OFFLINE, **more}


@dataclass(frozen=True)
class Environment:
    """``path`` is its folder."""

    path: Path

    @property
    def bin(self) -> Path:
        return self.path / ("Scripts" if sys.platform == "win32" else "bin")

    def run(self, *command: str, cwd: Path | None = None, code: int = 0, **environ: str) -> str:
        """What a command of this environment prints; it has to end with ``code``."""
        program, *arguments = command
        done = subprocess.run(
            [str(self.bin / program), *arguments],
            cwd=cwd or self.path,
            env=clean_environ(**environ),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + (done.stderr if code else "")

    def python(self, source: str, **environ: str) -> Any:
        """The JSON that a piece of Python prints."""
        return json.loads(self.run("python", "-W", "error", "-c", source, **environ))


@pytest.fixture(scope="session")
def lent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of links to what is installed here; flexmw and whatever leads to the checkout are left out."""
    folder = tmp_path_factory.mktemp("lent")
    for place in {sysconfig.get_paths()[name] for name in ("purelib", "platlib")}:
        for each in Path(place).iterdir():
            if "flexmw" not in each.name and each.suffix != ".pth" and each.name != "__pycache__":
                folder.joinpath(each.name).symlink_to(each)
    return folder


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory, lent: Path) -> Environment:
    fresh = Environment(tmp_path_factory.mktemp("fresh") / "env")
    venv.create(fresh.path, with_pip=True, symlinks=True)
    purelib = fresh.run("python", "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])").strip()
    Path(purelib, "lent.pth").write_text(f"{lent}\n")
    folders = [ROOT, *sorted(each.parent for each in ROOT.glob("plugins/*/pyproject.toml"))]
    fresh.run("pip", "install", "--quiet", "--no-deps", "--force-reinstall", *map(str, folders))
    return fresh


@dataclass(frozen=True)
class Declared:
    """A folder in which distributions are declared, to be put on the path of one process."""

    path: Path

    def add(
        self,
        distribution: str,
        name: str,
        target: str,
        *,
        version: str = "0.1",
        source: str = "",
        group: str = "flexmw.components",
    ) -> None:
        """A distribution with one entry point, and the module that it names, if there is any."""
        info = self.path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        info.joinpath("entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
        if source:
            self.path.joinpath(f"{target.partition(':')[0]}.py").write_text(source)


@pytest.fixture
def declared(tmp_path: Path) -> Declared:
    return Declared(tmp_path)
