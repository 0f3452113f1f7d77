"""``flexmw schema``: print a JSON Schema of ``flexmw.toml``, made from the options of the components.

>>> of_hint(tuple[str, ...])
{'type': 'array', 'items': {'type': 'string'}}
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Final, Literal, TextIO, Union, get_args, get_origin, get_type_hints

from flexmw.config.values import TYPES
from flexmw.errors import PluginError
from flexmw.kit.options import documentation
from flexmw.registry import BUILT_IN, installed, resolve

__all__ = ["HELP", "arguments", "command", "of_component", "of_hint", "schema"]

HELP = "print a JSON Schema of flexmw.toml, with the components of every installed distribution"

_PLAIN: Final = {str: "string", int: "integer", float: "number", bool: "boolean"}
_ENV: Final = {
    "type": "object",
    "description": "the value of an environment variable, read as `type`, else as the type of `default`, else a text",
    "properties": {"env": {"type": "string"}, "default": {}, "type": {"enum": [*TYPES]}},
    "required": ["env"],
    "additionalProperties": False,
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--built-in", action="store_true", help="leave out plugins, and do not import them")


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
    """The JSON Schema of a file that may contain these components.

    :param components: component classes by name.
    """
    single = {name: of_component(cls) for name, cls in components.items()}
    tables = {name: _or_several(table, f"#/properties/{name}") for name, table in single.items()}
    # A profile holds what differs, so that no option of a table is required in it.
    partial = {
        name: {key: value for key, value in table.items() if key != "required"} for name, table in single.items()
    }
    profiles = "#/properties/profile/additionalProperties/properties"
    properties = {
        name: {"anyOf": [_or_several(table, f"{profiles}/{name}/anyOf/0"), {"const": False}]}
        for name, table in partial.items()
    }
    profile = "Profiles by name: tables that lie over those of the file, and `false` for a component to leave out."
    inner = {"type": "object", "properties": properties, "additionalProperties": False}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "flexmw.toml",
        "description": "One table per component, in order, outermost first. Its keys are the component's options.",
        "type": "object",
        "properties": {**tables, "profile": {"type": "object", "description": profile, "additionalProperties": inner}},
        "additionalProperties": False,
    }


def _or_several(table: dict[str, Any], reference: str) -> dict[str, Any]:
    """The schema of a table ``[x]``, or of an array of such tables, ``[[x]]``.

    :param reference: where the schema will stand in the document.
    """
    return {**table, "type": ["object", "array"], "items": {"$ref": reference, "type": "object"}, "minItems": 1}


def of_component(cls: Any) -> dict[str, Any]:
    """The JSON Schema of one component's table.

    An option is left out when TOML cannot hold any of its values (functions, objects), and when it is hidden. Further
    keys are allowed where the class accepts arbitrary keywords.
    """
    parameters = inspect.signature(cls).parameters.values()
    hints = get_type_hints(cls.__init__)
    documented = {option.name: option for option in documentation(cls)}
    properties: dict[str, Any] = {}
    required: list[str] = []
    for parameter in parameters:
        name, option = parameter.name, documented.get(parameter.name)
        if parameter.kind not in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD) or name.startswith("_"):
            continue
        kind = None if option and option.hidden else of_hint(hints.get(name, Any))
        if kind is None:
            continue
        properties[name] = {
            "anyOf": [*kind.pop("anyOf", [kind] if kind else []), _ENV],
            **({"description": option.description} if option and option.description else {}),
            **({} if option and option.secret else _default(parameter.default)),
        }
        if parameter.default is parameter.empty:
            required.append(name)
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    summary = (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ")
    table = {"type": "object", "description": summary, "properties": properties, "additionalProperties": open_ended}
    return {**table, "required": required} if required else table


def of_hint(hint: Any) -> dict[str, Any] | None:
    """The JSON Schema of a type hint; ``None`` for types that TOML cannot hold."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if hint is Any:
        return {}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, UnionType):
        members = [of_hint(member) for member in arguments if member is not NoneType]
        kinds = [kind for kind in members if kind is not None]
        return None if not kinds else kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    if origin in (dict, Mapping):
        values = of_hint(arguments[1]) if arguments else None
        return {"type": "object", "additionalProperties": values} if values else None
    if origin in (tuple, list, Sequence):
        items = of_hint(arguments[0]) if arguments else {}
        return {"type": "array"} if items is None else {"type": "array", "items": items}
    return None


def _default(value: Any) -> dict[str, Any]:
    """The default as JSON, where JSON can hold it."""
    is_list = isinstance(value, (tuple, list))
    items: list[Any] = [*value] if is_list else [value]
    if not all(isinstance(item, (str, int, float, bool)) for item in items):
        return {}
    return {"default": items if is_list else value}
