"""Installed versions of the libraries whose private state flexmw reads, beside the versions it was checked with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.metadata import version


def differences(checked: Mapping[str, str], installed: Callable[[str], str] = version) -> list[str]:
    """One sentence for each library whose installed major or minor version is not the checked one."""
    return [
        f"{name} {found} is installed; flexmw.tagging.instruments was checked with {expected}"
        for name, expected in checked.items()
        if re.findall(r"\d+", found := installed(name))[:2] != expected.split(".")
    ]
