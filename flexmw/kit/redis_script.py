"""Lua scripts for redis and valkey: the text, and the name by which ``EVALSHA`` runs it.

>>> script("return 1").sha
'e0e1f9fabfc9d4800c877a703b823ac0578ff8db'
"""

from __future__ import annotations

from hashlib import sha1
from typing import NamedTuple

__all__ = ["Script", "script"]


class Script(NamedTuple):
    """A Lua script. The ``run_script`` of a client runs it, and sends the text to a server that does not know it yet.

    :param text: the source.
    :param sha: SHA-1 of the source in hexadecimal, the argument of ``EVALSHA``.
    """

    text: str
    sha: str


def script(text: str) -> Script:
    """The script with this text."""
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())
