"""Make the description of the package index from the README.

The links of the README are relative, for a forge and for a clone; an index would resolve them against itself. Where a
release names the repository (``FLEXMW_REPOSITORY``, the address of its files, which ``.github/workflows/release.yml``
sets), links and pictures lead there. A build without it, such as one from a clone, has the words of a link and no
link: a name without an address is better than a dead address.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(?P<picture>!?)\[(?P<words>[^\]]*)\]\((?P<path>(?![a-z]+:|#)[^)\s]+)\)")


class Description(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        """Set the field ``readme``."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        description = for_index(text, os.environ.get("FLEXMW_REPOSITORY", ""))
        metadata["readme"] = {"content-type": "text/markdown", "text": description}


def for_index(readme: str, files: str) -> str:
    """The README without relative links.

    :param files: the address that the paths of the repository are appended to; empty where none is known.
    """

    def absolute(link: re.Match[str]) -> str:
        if files:
            # A forge shows a picture as itself only where it is asked for the raw file.
            raw = "?raw=true" if link["picture"] else ""
            return f"{link['picture']}[{link['words']}]({files.rstrip('/')}/{link['path']}{raw})"
        return "" if link["picture"] else link["words"]

    return _LINK.sub(absolute, readme)
