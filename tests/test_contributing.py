"""CONTRIBUTING.md names files, commands and environments that exist."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def test_every_path_that_a_contributor_is_sent_to_exists() -> None:
    paths = set(re.findall(r"`((?:flexmw|tests|docs|plugins|benchmarks)/[\w./-]*|\w+\.(?:toml|md))`", PAGE))
    assert len(paths) > 20
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_every_script_that_a_contributor_is_sent_to_exists() -> None:
    scripts = re.findall(r"python -m (scripts\.\w+)", PAGE)
    assert scripts
    places = {name: ROOT / name.replace(".", "/") for name in scripts}
    assert [name for name, place in places.items() if not (place.is_dir() or place.with_suffix(".py").exists())] == []


def test_every_environment_that_a_contributor_may_run_exists() -> None:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    known = {section.removeprefix("testenv:") for section in tox.sections()}
    assert set(re.findall(r"tox run -e (\w+)", PAGE)) <= known
