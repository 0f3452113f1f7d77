"""The table of log lines and the calls of loggers in the package are the same."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import flexmw
from flexmw.kit.log_lines import LINES, LogLine

PACKAGE = Path(flexmw.__file__).parent
METHODS = {"debug", "info", "warning", "error", "critical", "exception", "log"}
LOGGERS = {"_log", "log", "logger", "_logger", "_LOGGER", "LOGGER"}


def calls(module: Path) -> Iterator[tuple[str, str]]:
    """The method and the format of each call of a logger, and of each ``(logging.LEVEL, format)`` of a table."""
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        match node:
            case ast.Tuple([ast.Attribute(ast.Name("logging"), level), ast.Constant(str(format_))]):
                yield level.lower(), format_
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS):
            continue
        owner = node.func.value
        name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
        texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        is_of_table = node.func.attr == "log" and isinstance(node.args[1], ast.Name)
        if name in LOGGERS and not is_of_table:
            yield node.func.attr, next(text for text in texts if isinstance(text, str))


WRITTEN = [
    (".".join(path.relative_to(PACKAGE).with_suffix("").parts), method, text)
    for path in sorted(PACKAGE.rglob("*.py"))
    if "testing" not in path.parts and "cli" not in path.parts
    for method, text in calls(path)
]


def is_row(line: LogLine, module: str, method: str, text: str) -> bool:
    levels = line.level.lower().split(" or ")
    return line.module == module and line.text in text and (method in levels or (method == "log" and len(levels) == 2))


LOUD = [row for row in WRITTEN if row[1] != "debug"]


@pytest.mark.parametrize(("module", "method", "text"), LOUD, ids=[f"{row[0]}: {row[2][:60]}" for row in LOUD])
def test_every_line_is_in_the_table_once(module: str, method: str, text: str) -> None:
    assert len([line for line in LINES if is_row(line, module, method, text)]) == 1


@pytest.mark.parametrize("line", LINES, ids=[line.event[:40] for line in LINES])
def test_every_row_of_the_table_is_written(line: LogLine) -> None:
    assert any(is_row(line, *written) for written in WRITTEN)


def test_the_loggers_of_the_table_are_the_documented_ones() -> None:
    names = {name for line in LINES for name in line.logger.split(", ")}
    components = ("ratelimit", "idempotency", "retry", "pace", "envelope", "tagging", "plugins")
    assert names == {f"flexmw.{component}" for component in components}
    assert all(logging.getLogger(name).level == logging.NOTSET for name in names)  # the application sets the levels


BOUNDED = [line for line in LINES if "the number of those left out" in line.bound]


@pytest.mark.parametrize("line", BOUNDED, ids=[line.event[:40] for line in BOUNDED])
def test_a_bounded_line_ends_in_what_its_limit_says_of_those_left_out(line: LogLine) -> None:
    assert any(is_row(line, *written) and written[-1].endswith("%s") for written in WRITTEN)
