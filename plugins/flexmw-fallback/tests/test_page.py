"""The examples of the page run, and what it says of them holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from flexmw_fallback import Fallback, PreambleEvent

PAGE = Path(__file__).parents[3] / "docs" / "fallback.md"


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """The names that the examples of the page define, run one after the other."""
    defined: dict[str, Any] = {}
    for block in re.findall(r"```py\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        exec(compile(block, PAGE.name, "exec"), defined)
    return defined


def test_every_example_runs(names: dict[str, Any]) -> None:
    assert {name for name, value in names.items() if isinstance(value, Fallback)} == {"fallback", "careful", "split"}


@pytest.mark.parametrize(
    ("data", "result"),
    [
        ("[DONE]", "commit"),
        ('{"error": {}}', "refused"),
        ('{"choices": [{"delta": {"role": "assistant"}}]}', "wait"),
        ('{"choices": [{"delta": {"content": "Hello"}}]}', "commit"),
        ('{"choices": []}', "wait"),
    ],
)
def test_the_preamble_of_the_page_decides_by_the_event(names: dict[str, Any], data: str, result: str) -> None:
    assert names["preamble"](PreambleEvent(f"data: {data}".encode())) == result
