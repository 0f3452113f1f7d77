"""Build the documentation site: ``python -m scripts.site FOLDER`` writes ``FOLDER/site``.

Zensical turns Markdown into HTML. Its input is a folder that this package lays out: the pages of ``docs/``, and
everything in the repository that they link to, so that no link leaves the site for a file of the repository. A link to
nothing, a heading that does not exist and a page outside of the navigation fail the build.
"""

from __future__ import annotations

__all__ = ["ROOT"]

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
