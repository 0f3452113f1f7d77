"""SECURITY.md: each promise names the tests that hold it, and these tests exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_each_promise_names_tests_that_exist() -> None:
    _, _, promises = (ROOT / "SECURITY.md").read_text(encoding="utf-8").partition("What flexmw promises")
    bullets = re.split(r"\n- ", promises)[1:]
    assert len(bullets) >= 5
    for bullet in bullets:
        files = re.findall(r"`(tests/[a-z_/]+\.py)`", bullet)
        assert files, bullet
        assert [file for file in files if not (ROOT / file).is_file()] == [], bullet
