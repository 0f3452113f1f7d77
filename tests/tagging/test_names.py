"""Every telemetry name that the package writes or reads is a row of the tables in ``flexmw.kit.semconv``.

A typo in an attribute name raises nothing: the attribute is written under the wrong name, or read as missing. Constants
would move the names away from the lines that write them, so this test reads the string literals instead.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import flexmw
from flexmw.kit.events import EVENTS as EVENTS_OF_COMPONENTS
from flexmw.kit.semconv import ATTRIBUTES, EVENTS, METRICS

PACKAGE = Path(flexmw.__file__).parent
TABLES = {*ATTRIBUTES, *EVENTS, *METRICS}

IN_TAGGING = tuple(sorted({name.partition(".")[0] + "." for name in TABLES}))
"""Namespaces of the names in Tagging: ``flexmw.``, ``http.``, ``exception.`` and so on."""

ELSEWHERE = tuple(sorted({".".join(name.split(".")[:2]) + "." for name in TABLES if name.startswith("flexmw.")}))
"""Namespaces of the facts and events of other components, such as ``flexmw.rate_limiting.``."""

EXCHANGE_EVENTS = {*EVENTS_OF_COMPONENTS}
ASGI_MESSAGES = ("http.disconnect", "http.request", "http.response.", "websocket.")
NOT_TELEMETRY = {
    "flexmw.call": "the name of a span",
    "flexmw.idempotency.limiters": "the name of a context variable",
    "http.method": "an attribute of the old semantic conventions, read from the spans of other instruments",
}


def dotted_names(path: Path) -> Iterator[str]:
    """The string literals of a module that are dotted names."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, str) and re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", value):
            yield value


def is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("module", sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py")))
def test_every_telemetry_name_in_a_module_is_a_row_of_the_tables(module: str) -> None:
    namespaces = IN_TAGGING if module.startswith("tagging") else ELSEWHERE
    names = {name for name in dotted_names(PACKAGE / module) if name.startswith(namespaces)}
    unknown = names - TABLES - EXCHANGE_EVENTS - NOT_TELEMETRY.keys()
    assert not {name for name in unknown if not name.startswith(ASGI_MESSAGES) and not is_module(name)}
