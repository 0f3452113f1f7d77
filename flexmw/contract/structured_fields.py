"""Structured header fields (RFC 9651), as far as rate-limit headers use them. Pure.

>>> list(items('"default";r=50;t=30, burst;r=1'))
[('default', {'r': '50', 't': '30'}), ('burst', {'r': '1'})]
>>> dictionary("limit=100, remaining=50;x=1, flag")
{'limit': '100', 'remaining': '50'}

The reader takes more than the standard allows, and never fails: whatever it cannot read is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

__all__ = ["dictionary", "items"]

_ITEM: Final = re.compile(r"""(?:"([^"]*)"|([A-Za-z*][A-Za-z0-9_.:%*/-]*))((?:;[^,;"]*(?:"[^"]*"[^,;"]*)?)*)""")
"""One member of a list: a name, quoted or bare, and its parameters. Linear: no two neighbouring repetitions match the
same character."""

_PARAMETER: Final = re.compile(r""";\s*([a-z*][a-z0-9_.*-]*)=("[^"]*"|[^;,"]*)""")


def items(value: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each member of a list: its name without quotes, and its parameters as they are written."""
    for quoted, bare, parameters in _ITEM.findall(value):
        yield quoted or bare, {name: text.strip() for name, text in _PARAMETER.findall(parameters)}


def dictionary(value: str) -> dict[str, str]:
    """Return the members of a dictionary that have a value, without parameters."""
    members = (member.partition(";")[0] for member in value.split(","))
    pairs = (member.partition("=") for member in members if "=" in member)
    return {name.strip(): text.strip() for name, _, text in pairs}
