"""A new user gets from an empty folder to a wrapped app and a wrapped SDK client by a start page alone.

Everything is installed by the page's own commands, from the index; flexmw itself from the wheel of this checkout.
"""
# ruff: noqa: S101

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from flexmw.testing.hostile.ports import Port
from tests.plugins.conftest import OFFLINE, clean_environ
from tests.servers import ROOT
from tests.start_pages import PAGES, follow


@pytest.mark.parametrize("page", PAGES)
def test_a_start_page_does_what_it_says_in_a_fresh_environment(page: str, tmp_path: Path) -> None:
    folder, wheels = tmp_path / "empty", tmp_path / "wheels"
    folder.mkdir()
    list(WheelBuilder(str(ROOT)).build(directory=str(wheels), versions=["standard"]))
    environ = clean_environ(PIP_FIND_LINKS=str(wheels), PATH=os.environ["PATH"])
    online = {name: value for name, value in environ.items() if name not in OFFLINE}
    with Port() as port:
        assert follow(page, folder, port.number, installs=True, environ=online) >= 1
