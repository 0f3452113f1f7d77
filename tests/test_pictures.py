"""The pictures of the docs are those that the code draws, and show what the decision tables say."""

from __future__ import annotations

from typing import get_args
from xml.etree import ElementTree

import pytest

from flexmw.retry.core import TABLE, Safety
from scripts.pictures import COMMAND, FOLDER
from scripts.pictures.__main__ import PICTURES
from scripts.pictures.chaos import OUTPUT
from scripts.pictures.diagrams import retry_table


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("name", PICTURES)
def test_each_picture_is_up_to_date(name: str) -> None:
    assert FOLDER.joinpath(name).read_text("utf-8") == PICTURES[name](), f"run: {COMMAND}"


def test_no_picture_is_left_over() -> None:
    assert {file.name for file in FOLDER.iterdir()} == {*PICTURES, OUTPUT.name}


def test_the_table_of_retry_has_a_cell_for_each_kind_of_safety() -> None:
    cells = [text for text in texts(retry_table()) if text in {"again", "no"}]
    assert len(cells) == len(TABLE) * len(get_args(Safety))
    assert cells.count("again") == sum(map(len, TABLE.values()))


def test_the_chaos_runs_broke_no_promise() -> None:
    output = OUTPUT.read_text("utf-8")
    assert "BAD" not in output
    assert output.count("ok ") >= 8
