"""Which names are public: every package says it, docs/plugins.md lists it, and nobody outside flexmw uses another."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from doctest import DocTestParser
from types import ModuleType

import pytest

from scripts.plugins_page import COMMAND, PAGE, generated, packages

ROOT = PAGE.parents[1]
PUBLIC = packages()
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def public_modules() -> set[str]:
    return {name for package in PUBLIC.values() for name in (package.name, *package.modules)}


def names_of(module: str) -> set[str]:
    """The names of a module that are public. Each package that offers something can itself be named."""
    package = PUBLIC.get(module)
    if package is None:
        return set(importlib.import_module(module).__all__)
    below = {name.rpartition(".")[2] for name in (*PUBLIC, *package.modules) if name.rpartition(".")[0] == module}
    return {*package.names, *below}


def uses(tree: ast.AST) -> Iterator[str]:
    """Every dotted name below ``flexmw`` that a program imports or reads."""
    bound: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "flexmw":
                    bound[alias.asname or "flexmw"] = alias.name if alias.asname else "flexmw"
                    yield alias.name
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "flexmw" and not node.level:
            for alias in node.names:
                bound[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (root := re.match(r"[\w.]+$", text := ast.unparse(node))):
            first, _, rest = text.partition(".")
            if root and first in bound:
                yield f"{bound[first]}.{rest}"


def is_public(name: str) -> bool:
    """Whether every step from ``flexmw`` to a name is public. Attributes of an object are the object's affair."""
    module = "flexmw"
    for step in name.split(".")[1:]:
        if step not in names_of(module):
            return False
        module = f"{module}.{step}"
        if not is_module(module):
            return True
        if module not in public_modules():
            return False
    return True


def is_module(name: str) -> bool:
    parent, _, last = name.rpartition(".")
    found = getattr(importlib.import_module(parent), last, None)
    return isinstance(found, ModuleType) or (found is None and name in public_modules())


def programs() -> Iterator[tuple[str, str]]:
    """Everything that shows a user what to write, as ``(where, source)``."""
    for folder in ("plugins", "examples"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not {".venv", "build"} & {*path.parts}:
                yield str(path.relative_to(ROOT)), path.read_text("utf-8")
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    pages += [path for folder in ("plugins", "examples") for path in sorted((ROOT / folder).glob("*/README.md"))]
    for path in pages:
        text = path.read_text("utf-8")
        for number, (language, block) in enumerate(FENCE.findall(text)):
            if language in ("py", "python") and ">>>" not in block:
                yield f"{path.relative_to(ROOT)}, block {number}", block
        examples = DocTestParser().get_examples(re.sub(r"^```\w*$", "", text, flags=re.MULTILINE))
        yield f"{path.relative_to(ROOT)}, examples", "".join(example.source for example in examples)


def private_uses(source: str) -> list[str]:
    """The names that a program uses and that are not public, each in full."""
    names = {name for name in uses(ast.parse(source)) if not is_public(name)}
    return sorted(name for name in names if not any(other.startswith(f"{name}.") for other in names))


def test_every_package_says_what_is_public() -> None:
    assert {"flexmw", "flexmw.kit", "flexmw.contract", "flexmw.ratelimit.algorithms"} <= {*PUBLIC}
    for package in PUBLIC.values():
        for module in package.modules:
            assert importlib.import_module(module).__all__


def test_the_table_of_the_docs_is_what_the_packages_say() -> None:
    assert PAGE.read_text("utf-8") == generated(), f"run: {COMMAND}"


def test_whatever_users_are_shown_uses_public_names_alone() -> None:
    shown = dict(programs())
    assert len(shown) > 60
    faults = {where: names for where, source in shown.items() if (names := private_uses(source))}
    assert faults == {}


@pytest.mark.parametrize(
    ("source", "private"),
    [
        ("import flexmw\nflexmw.wrap_app(flexmw.Retry.name)", []),
        ("import flexmw.kit.clock\nfrom flexmw.kit.clock import SYSTEM", []),
        ("import flexmw.ratelimit.limits_storage", []),
        ("import flexmw\nflexmw.httpx.Transport(flexmw.testing.FakeClock())", []),
        ("from flexmw import errors", ["flexmw.errors"]),
        ("from flexmw.errors import APIError", ["flexmw.errors.APIError"]),
        ("from flexmw.kit.effects import Send", ["flexmw.kit.effects.Send"]),
        ("import flexmw.kit as kit\nkit.clock, kit.effects.Send", ["flexmw.kit.effects.Send"]),
        ("import flexmw as f\nf.retry.core.judge('unsent', 'none')", ["flexmw.retry.core.judge"]),
        ("from flexmw.retry import Licence", ["flexmw.retry.Licence"]),
        ("from flexmw.idempotency.stores import Store", ["flexmw.idempotency.stores.Store"]),
    ],
)
def test_a_private_name_is_found_however_it_is_spelt(source: str, private: list[str]) -> None:
    assert private_uses(source) == private


def test_the_examples_of_the_pages_are_searched() -> None:
    where = [name for name, source in programs() if "flexmw" in source]
    assert [name for name in where if name.startswith("docs/plugins.md, block")]
    assert [name for name in where if name.startswith("docs/idempotency.md, examples")]
    assert [name for name in where if name.startswith("examples/gateway/")]
