"""What is generated from the options: tables of ``docs/``, ``:param`` lines, the signature for type checkers."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.option_docs import COMMAND, COMPONENTS, ROOT, documented_options, generated, literal, table


@pytest.mark.parametrize("path", generated(), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_written_is_what_the_options_say(path: Any) -> None:
    assert path.read_text("utf-8") == generated()[path], f"run: {COMMAND}"


@pytest.mark.parametrize("cls", COMPONENTS)
def test_every_option_that_users_set_is_documented_in_whole_sentences(cls: type[Any]) -> None:
    for option in documented_options(cls):
        assert option.doc[0].isupper(), option.name
        assert option.doc.endswith("."), option.name
        assert option.value, f"{cls.__name__}({option.name}=...) has no rule"


def test_a_table_has_a_row_for_each_option() -> None:
    for cls in COMPONENTS:
        rows = table(cls).splitlines()
        assert len(rows) == 2 + len(documented_options(cls))
        assert {row.replace(r"\|", "").count("|") for row in rows} == {5}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", '"a"'),
        (("a",), '("a",)'),
        (("a", 1), '("a", 1)'),
        ((), "()"),
        (60.0, "60.0"),
        (None, "None"),
        (True, "True"),
        (object(), "..."),
    ],
)
def test_a_default_is_written_as_python_spells_it(value: object, text: str) -> None:
    assert literal(value) == text
