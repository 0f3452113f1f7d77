"""``flexmw schema``: a JSON Schema of ``flexmw.toml``, from the options of the components themselves.

>>> of_hint(tuple[str, ...])
{'type': 'array', 'items': {'type': 'string'}}
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Final, Literal, TextIO, Union, get_args, get_origin, get_type_hints

from flexmw.errors import PluginError
from flexmw.registry import BUILT_IN, installed, resolve

__all__ = ["HELP", "arguments", "command", "of_component", "of_hint", "schema"]

HELP = "print a JSON Schema of flexmw.toml, with the components of every installed distribution"

_PLAIN: Final = {str: "string", int: "integer", float: "number", bool: "boolean"}
_ENV: Final = {
    "type": "object",
    "description": "the value of an environment variable",
    "properties": {"env": {"type": "string"}},
    "required": ["env"],
    "additionalProperties": False,
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--built-in", action="store_true", help="leave plugins out, and import none")


def command(arguments: argparse.Namespace, out: TextIO) -> int:
    names = [*BUILT_IN, *({} if arguments.built_in else {plugin.name: None for plugin in installed()})]
    components: dict[str, Any] = {}
    code = 0
    for name in names:
        try:
            components[name] = resolve(name)
        except PluginError as error:
            sys.stderr.write(f"flexmw: left out: {error}\n")
            code = 1
    out.write(json.dumps(schema(components), indent=2) + "\n")
    return code


def schema(components: dict[str, Any]) -> dict[str, Any]:
    """The schema of a file that may name these component classes."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "flexmw.toml",
        "description": "One table per component, in order, outermost first. Its keys are the component's options.",
        "type": "object",
        "properties": {name: of_component(cls) for name, cls in components.items()},
        "additionalProperties": False,
    }


def of_component(cls: Any) -> dict[str, Any]:
    """The table of one component. Options that no file can hold (functions, objects) are left out; so is a
    component's whole description where it takes whatever it is given."""
    parameters = inspect.signature(cls).parameters.values()
    hints = get_type_hints(cls.__init__)
    known = {each.name: each.metadata for each in fields(cls)} if is_dataclass(cls) else {}
    options: dict[str, Any] = {}
    required: list[str] = []
    for each in parameters:
        metadata: Mapping[str, Any] = known.get(each.name, {})
        hidden = metadata.get("hidden") or each.name.startswith("_")
        if hidden or each.kind not in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD):
            continue
        kind = of_hint(hints.get(each.name, Any))
        if kind is None:
            continue
        rule = metadata.get("rule")
        options[each.name] = {
            "anyOf": [*kind.pop("anyOf", [kind] if kind else []), _ENV],
            **({"description": rule.expected} if rule is not None else {}),
            **_default(each.default, secret=bool(metadata.get("secret"))),
        }
        if each.default is each.empty:
            required.append(each.name)
    open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters)
    first = (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ")
    table = {"type": "object", "description": first, "properties": options, "additionalProperties": open_ended}
    return {**table, "required": required} if required else table


def of_hint(hint: Any) -> dict[str, Any] | None:
    """A type hint as JSON Schema; ``None`` for what TOML cannot hold."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if hint is Any:
        return {}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (Union, UnionType):
        kinds = list(_kinds(inner))
        return None if not kinds else kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    if origin in (tuple, list, Sequence):
        items = of_hint(inner[0]) if inner else {}
        return {"type": "array"} if items is None else {"type": "array", "items": items}
    return None


def _kinds(hints: tuple[Any, ...]) -> Iterator[dict[str, Any]]:
    for hint in hints:
        kind = None if hint is NoneType else of_hint(hint)
        if kind is not None:
            yield kind


def _default(value: Any, *, secret: bool) -> dict[str, Any]:
    several = isinstance(value, (tuple, list))
    items: list[Any] = [*value] if several else [value]
    if secret or not all(isinstance(item, (str, int, float, bool)) for item in items):
        return {}
    return {"default": items if several else value}
