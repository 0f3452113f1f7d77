"""Structured header fields (RFC 9651): tolerant readers for rate-limit headers, a strict parser of one item. Pure.

>>> list(items('"default";r=50;t=30, burst;r=1'))
[('default', {'r': '50', 't': '30'}), ('burst', {'r': '1'})]
>>> dictionary("limit=100, remaining=50;x=1, flag")
{'limit': '100', 'remaining': '50'}
>>> parse_item('"a";from=7;live')
('a', {'from': 7, 'live': True})

:func:`items` and :func:`dictionary` take more than the standard allows, and never fail: they leave out whatever they
cannot read. :func:`parse_item` takes exactly what section 4.2.3 of the standard allows.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Final, TypeAlias

__all__ = ["BareItem", "Token", "dictionary", "format_item", "items", "parse_item"]

_ITEM: Final = re.compile(r"""(?:"([^"]*)"|([A-Za-z*][A-Za-z0-9_.:%*/-]*))((?:;[^,;"]*(?:"[^"]*"[^,;"]*)?)*)""")
"""One member of a list: a name, quoted or bare, and its parameters. Linear: no two neighbouring repetitions match the
same character."""

_PARAMETER: Final = re.compile(r""";\s*([a-z*][a-z0-9_.*-]*)=("[^"]*"|[^;,"]*)""")

_BARE: Final = re.compile(
    r"""(?P<number>-?(?:[0-9]{1,12}\.[0-9]{1,3}|[0-9]{1,15})(?![0-9.]))"""
    r"""|"(?P<string>(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)\""""
    r"""|(?P<token>[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*)"""
    r"""|:(?P<binary>[A-Za-z0-9+/=]*):"""
    r"""|\?(?P<boolean>[01])"""
)
"""A bare item (section 4.2.3.1) without the two types that RFC 9651 added to RFC 8941, dates and display strings."""

_KEY: Final = re.compile(r"; *([a-z*][a-z0-9_.*-]*)(=?)")
_ESCAPED: Final = re.compile(r'\\(["\\])')


class Token(str):
    """A token (section 3.3.4): text that is not quoted on the wire."""

    __slots__ = ()


BareItem: TypeAlias = str | int | Decimal | bytes
"""A string, a :class:`Token`, an integer, a ``bool``, a decimal or a byte sequence."""


def items(value: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each member of a list: its name without quotes, and its parameters as they are written."""
    for quoted, bare, parameters in _ITEM.findall(value):
        yield quoted or bare, {name: text.strip() for name, text in _PARAMETER.findall(parameters)}


def dictionary(value: str) -> dict[str, str]:
    """Return the members of a dictionary that have a value, without parameters."""
    members = (member.partition(";")[0] for member in value.split(","))
    pairs = (member.partition("=") for member in members if "=" in member)
    return {name.strip(): text.strip() for name, _, text in pairs}


def parse_item(value: str) -> tuple[BareItem, dict[str, BareItem]]:
    """Parse one item with its parameters (RFC 9651 section 4.2.3).

    The last value of a parameter that occurs twice counts, as the standard says.

    :raises ValueError: the value is not an item; the message names the place, counted from 0 in characters.
    """
    bare, place = _parse_bare(value, len(value) - len(value.lstrip(" ")))
    parameters: dict[str, BareItem] = {}
    while key := _KEY.match(value, place):
        place = key.end()
        parameters[key[1]], place = _parse_bare(value, place) if key[2] else (True, place)
    if value[place:].strip(" "):
        raise ValueError(f"unexpected characters at place {place}")
    return bare, parameters


def format_item(bare: BareItem, parameters: Mapping[str, BareItem]) -> str:
    """Write one item with its parameters (RFC 9651 section 4.1.3), for the types that :class:`BareItem` names.

    The names of the parameters are not checked.

    :raises ValueError: a string holds a character that is not printable ASCII.
    """
    written = (f";{name}" if value is True else f";{name}={_format_bare(value)}" for name, value in parameters.items())
    return _format_bare(bare) + "".join(written)


def _parse_bare(value: str, place: int) -> tuple[BareItem, int]:
    match = _BARE.match(value, place)
    if match is None or match.lastgroup is None:
        raise ValueError(f"no item of RFC 9651 begins at place {place}")
    return _VALUES[match.lastgroup](match[match.lastgroup]), match.end()


def _number(text: str) -> int | Decimal:
    return Decimal(text) if "." in text else int(text)


def _binary(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except Base64Error:
        raise ValueError("a byte sequence is not valid base64") from None


_VALUES: Final[Mapping[str, Callable[[str], BareItem]]] = {
    "number": _number,
    "string": lambda text: _ESCAPED.sub(r"\1", text),
    "token": Token,
    "binary": _binary,
    "boolean": lambda text: text == "1",
}


def _format_bare(value: BareItem) -> str:
    if isinstance(value, bool):
        return f"?{value:d}"
    if isinstance(value, bytes):
        return f":{b64encode(value).decode('ascii')}:"
    if isinstance(value, str) and not isinstance(value, Token):
        if not (value.isascii() and value.isprintable()):
            raise ValueError("a string holds a character that is not printable ASCII")
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)
