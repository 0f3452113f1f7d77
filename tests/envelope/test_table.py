"""The page of failure modes says what happens now."""

from __future__ import annotations

import re

import pytest

from tests.envelope.table import PAGE, render


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_page_is_what_a_run_of_it_gives() -> None:
    assert PAGE.read_text(encoding="utf-8") == render()


def test_the_page_has_every_one_of_the_65_modes() -> None:
    numbers = {int(number) for number in re.findall(r"(?m)^\| (\d+) \|", PAGE.read_text(encoding="utf-8"))}
    assert numbers >= set(range(1, 66))
