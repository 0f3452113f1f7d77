"""The distributions as they would be published: what is in the wheels and in the sdist, and what their metadata say."""

from __future__ import annotations

import configparser
import re
import tarfile
import tomllib
from email import message_from_string
from email.message import Message
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import ZipFile

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import flexmw
from hatch_build import for_index

ROOT = Path(__file__).parents[1]
NOTES = "findings"
"""The folder that only the repository has."""
PLUGINS = sorted(file.parent for file in ROOT.glob("plugins/*/pyproject.toml"))


def settings(folder: Path) -> dict[str, Any]:
    return tomllib.loads(folder.joinpath("pyproject.toml").read_text(encoding="utf-8"))


def build(folder: Path, builder: Any, out: Path) -> Path:
    """Build a distribution without a network and without an environment of its own."""
    (built,) = builder(str(folder)).build(directory=str(out), versions=["standard"])
    return Path(built)


class Wheel:
    """A wheel.

    :ivar files: the content of each file by its name.
    :ivar info: the name of its ``.dist-info`` folder.
    """

    def __init__(self, path: Path) -> None:
        with ZipFile(path) as archive:
            self.files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
        self.info = "-".join(path.name.split("-")[:2]) + ".dist-info"

    def text(self, name: str) -> str:
        return self.files[f"{self.info}/{name}"].decode()

    @property
    def metadata(self) -> Message:
        return message_from_string(self.text("METADATA"))

    @property
    def entry_points(self) -> dict[str, dict[str, str]]:
        parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
        parser.optionxform = str  # type: ignore[method-assign, assignment]
        parser.read_string(self.text("entry_points.txt"))
        return {section: dict(parser[section]) for section in parser.sections()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    return Wheel(build(ROOT, WheelBuilder, tmp_path_factory.mktemp("wheel")))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the sdist unpacks to."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(build(ROOT, SdistBuilder, tmp_path_factory.mktemp("sdist"))) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = folder.iterdir()
    return unpacked


def package_files(folder: Path) -> set[str]:
    """The files of a package as its wheel should have them."""
    files = (each for each in folder.rglob("*") if each.is_file() and "__pycache__" not in each.parts)
    return {file.relative_to(folder.parent).as_posix() for file in files}


def test_the_wheel_has_every_file_of_the_package_and_no_other(wheel: Wheel) -> None:
    inside = {name for name in wheel.files if not name.startswith(f"{wheel.info}/")}
    assert inside == {*package_files(ROOT / "flexmw"), "pytest_flexmw.py"}, "the plugin imports no package at start"
    assert "flexmw/py.typed" in inside
    assert {PurePosixPath(name).suffix for name in inside} == {".py", ".typed"}


def test_the_wheel_has_metadata_and_the_licence_and_nothing_else_beside_the_package(wheel: Wheel) -> None:
    inside = {name.removeprefix(f"{wheel.info}/") for name in wheel.files if name.startswith(wheel.info)}
    assert inside == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    assert wheel.text("licenses/LICENSE") == ROOT.joinpath("LICENSE").read_text(encoding="utf-8")
    assert "Root-Is-Purelib: true" in wheel.text("WHEEL")
    assert "Tag: py3-none-any" in wheel.text("WHEEL")


def test_the_metadata_say_what_pyproject_says(wheel: Wheel) -> None:
    project, metadata = settings(ROOT)["project"], wheel.metadata
    assert (metadata["Name"], metadata["Version"]) == ("flexmw", flexmw.__version__)
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == project["requires-python"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == for_index(ROOT.joinpath("README.md").read_text(encoding="utf-8"), "")
    assert metadata.get_all("Classifier") == project["classifiers"]
    assert set(metadata.get_all("Provides-Extra", ())) == set(project["optional-dependencies"])
    needed = {line for line in metadata.get_all("Requires-Dist", ()) if "extra ==" not in line}
    assert needed == set(project["dependencies"])


def test_the_description_has_no_relative_link() -> None:
    readme = ROOT.joinpath("README.md").read_text(encoding="utf-8")
    paths = re.findall(r"\]\((?!https?:|#)([^)]+)\)", readme)
    assert len(paths) > 5
    for files in ("", "https://forge.test/o/r/blob/v1"):
        assert re.findall(r"\]\((?!https?:|#)", for_index(readme, files)) == []
    released = for_index(readme, "https://forge.test/o/r/blob/v1/")
    assert all(f"(https://forge.test/o/r/blob/v1/{path}" in released for path in paths)
    assert for_index("a [b](c.md) ![d](e.svg)", "https://f") == "a [b](https://f/c.md) ![d](https://f/e.svg?raw=true)"
    assert for_index("a [b](c.md) ![d](e.svg) [g](https://h)", "") == "a b  [g](https://h)"


def test_the_entry_points_lead_to_what_is_there(wheel: Wheel) -> None:
    project = settings(ROOT)["project"]
    assert wheel.entry_points == {"console_scripts": project["scripts"], **project["entry-points"]}
    for group in wheel.entry_points.values():
        for target in group.values():
            module = target.partition(":")[0].replace(".", "/")
            assert {f"{module}.py", f"{module}/__init__.py"} & set(wheel.files), target


def test_each_python_that_the_metadata_name_has_an_environment_of_tox() -> None:
    numbers = re.findall(r"Python :: 3\.(\d+)", "\n".join(settings(ROOT)["project"]["classifiers"]))
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "tox.ini")
    listed = re.search(r"py3\{([\d,]+)\}", parser["tox"]["env_list"])
    assert listed is not None
    assert set(numbers) <= set(listed[1].split(","))
    assert settings(ROOT)["project"]["requires-python"] == f">=3.{numbers[0]}"


def test_the_sdist_has_what_its_tests_and_its_readers_need(sdist: Path) -> None:
    made = [line.rstrip("/") for line in sdist.joinpath(".gitignore").read_text(encoding="utf-8").splitlines()]
    here = {each.name for each in ROOT.iterdir() if not any(fnmatch(each.name, pattern) for pattern in made)}
    expected = {name for name in here if not name.startswith(".")} - {NOTES}
    assert {each.name for each in sdist.iterdir()} - {"PKG-INFO", ".gitignore"} == expected
    tests = {each.relative_to(sdist) for each in sdist.rglob("test_*.py")}
    assert tests >= {each.relative_to(ROOT) for each in ROOT.joinpath("tests").rglob("test_*.py")}


def test_a_wheel_that_is_built_from_the_sdist_is_the_same(wheel: Wheel, sdist: Path, tmp_path: Path) -> None:
    assert Wheel(build(sdist, WheelBuilder, tmp_path / "out")).files == wheel.files


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_the_wheel_of_each_plugin_is_complete(folder: Path, tmp_path: Path) -> None:
    wheel = Wheel(build(folder, WheelBuilder, tmp_path / "out"))
    (package,) = [each for each in folder.joinpath("src").iterdir() if each.joinpath("__init__.py").exists()]
    assert {name for name in wheel.files if not name.startswith(f"{wheel.info}/")} == package_files(package)
    assert f"{package.name}/py.typed" in wheel.files
    assert f"{wheel.info}/licenses/LICENSE" in wheel.files
    assert wheel.entry_points == settings(folder)["project"]["entry-points"]
    assert any(line.startswith("flexmw") for line in wheel.metadata.get_all("Requires-Dist", ()))
