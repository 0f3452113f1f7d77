"""Lua scripts for redis and valkey, and how a server that lacks one learns it.

>>> script("return 1").sha
'e0e1f9fabfc9d4800c877a703b823ac0578ff8db'
"""

from __future__ import annotations

from hashlib import sha1
from typing import NamedTuple

__all__ = ["Script", "script"]


class Script(NamedTuple):
    """A Lua script, and the SHA-1 that ``EVALSHA`` names it by. The ``run_script`` of a client runs it."""

    text: str
    sha: str


def script(text: str) -> Script:
    """The script with this text."""
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())
