"""Replace what stands between two lines of a page.

>>> filled("a\\n<!-- begin -->\\nold\\n<!-- end -->\\nb", "<!-- begin -->", "<!-- end -->", "new", name="page.md")
'a\\n<!-- begin -->\\n\\nnew\\n\\n<!-- end -->\\nb'
"""

from __future__ import annotations

__all__ = ["filled"]


def filled(page: str, begin: str, end: str, text: str, *, name: str) -> str:
    """The page with ``text`` between the lines ``begin`` and ``end``, and an empty line on both sides.

    :param name: what the page is called, for the error message.
    :raises ValueError: the page lacks one of the lines.
    """
    before, found, rest = page.partition(begin)
    if not found or end not in rest:
        raise ValueError(f"{name} lacks the lines {begin!r} and {end!r}")
    return f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}"
