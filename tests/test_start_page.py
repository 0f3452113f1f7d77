"""The start pages do what they say. ``tests_nightly/test_start_page.py`` installs what they name, too."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from flexmw.testing.hostile.ports import Port
from tests.plugins.conftest import clean_environ
from tests.servers import skip_unless
from tests.start_pages import PAGES, follow


@pytest.mark.parametrize("page", PAGES)
def test_a_start_page_does_what_it_says(page: str, tmp_path: Path) -> None:
    skip_unless(shutil.which("bash"), "bash")
    skip_unless(shutil.which("curl"), "curl")
    environ = clean_environ(PATH=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    with Port() as port:
        assert follow(page, tmp_path, port.number, installs=False, environ=environ) >= 1
