"""No test fails because the machine was busy for some seconds: see :mod:`tests.waiting`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.waiting import LONGEST_WAIT

HERE = Path(__file__).parent
BOUNDS = {"fail_after", "asyncio.timeout", "asyncio.wait_for", "communicate", "result", "socket.create_connection"}
"""Calls whose number of seconds is a bound that only a failure reaches."""

CLIENTS = {f"{library}.{verb}" for library in ("httpx", "httpx2") for verb in ("get", "post", "request", "stream")}
"""Functions that send over a real socket, and give up after five seconds unless they are told otherwise."""


def _bounds(call: ast.Call) -> Iterator[float]:
    for value in (*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "timeout")):
        if isinstance(value, ast.Constant) and isinstance(value.value, int | float):
            yield value.value


def short_bounds(source: str) -> list[int]:
    """The lines with a bound of a few seconds. Less than a second is the subject of a test."""
    lines: list[int] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = ast.unparse(node.func)
            is_bound = not BOUNDS.isdisjoint((name, node.func.attr))
            if is_bound and any(1 <= seconds < LONGEST_WAIT for seconds in _bounds(node)):
                lines.append(node.lineno)
            if name in CLIENTS and not any(keyword.arg in ("timeout", None) for keyword in node.keywords):
                lines.append(node.lineno)
    return lines


def test_a_bound_of_a_few_seconds_is_found() -> None:
    assert short_bounds("with anyio.fail_after(5): pass") == [1]
    assert short_bounds("x = 1\nawait asyncio.wait_for(event.wait(), 5.0)") == [2]
    assert short_bounds("process.communicate(timeout=20)") == [1]
    assert short_bounds("httpx.get(url)") == [1]
    assert short_bounds("anyio.fail_after(0.05), httpx.get(url, timeout=LONGEST_WAIT), httpx.get(url, **more)") == []


def test_no_test_waits_only_a_few_seconds_for_what_must_happen() -> None:
    found = {str(file.relative_to(HERE)): short_bounds(file.read_text("utf-8")) for file in HERE.rglob("*.py")}
    assert {file: lines for file, lines in found.items() if lines} == {}
