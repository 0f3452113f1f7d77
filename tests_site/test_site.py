"""Each page of the site loads without a complaint and fits a phone; the search finds what it is asked for."""

from __future__ import annotations

import re
from pathlib import Path

from markdown_it import MarkdownIt

from tests_site.browser import Page

PHONE = (390, 844)
DESKTOP = (1280, 900)

_IS_WIDER = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
_WIDEST = """[...document.querySelectorAll('article *')]
    .filter(element => element.getBoundingClientRect().right > innerWidth + 1)
    .filter(element => !element.closest('.md-typeset__scrollwrap, pre'))
    .slice(0, 3).map(element => element.outerHTML.slice(0, 200)).join('\\n')"""
_UNDRAWN = """[...document.querySelectorAll('article img')]
    .filter(image => !image.naturalWidth).map(image => image.src)"""
_SEARCH = """[...document.querySelectorAll('body *')]
    .map(element => element.shadowRoot).find(root => root?.querySelector('input'))"""


def pages(site: Path) -> list[str]:
    folders = (file.parent.relative_to(site).as_posix() for file in site.rglob("index.html"))
    return sorted("/" if folder == "." else f"/{folder}/" for folder in folders)


def test_no_page_complains_lacks_a_picture_or_scrolls_sideways_on_a_phone(site: Path, origin: str, page: Page) -> None:
    page.resize(*PHONE)
    faults = []
    for path in pages(site):
        page.open(f"{origin}{path}")
        faults += [f"{path}: {complaint}" for complaint in page.complaints]
        faults += [f"{path}: not drawn: {picture}" for picture in page.run(_UNDRAWN)]
        if page.run(_IS_WIDER):
            faults.append(f"{path} is wider than a phone: {page.run(_WIDEST)}")
    assert faults == []


def test_each_page_has_the_structure_that_a_forge_gives_it(site: Path) -> None:
    """Zensical reads another Markdown than CommonMark, in which a list needs an empty line before it, for one."""
    commonmark = MarkdownIt("commonmark").enable("table")
    differ = {}
    for page in site.parent.joinpath("docs").rglob("*.md"):
        place = page.relative_to(site.parent / "docs").with_suffix("")
        folder = place.parent if place.name in {"index", "README"} else place
        shown = site.joinpath(folder, "index.html").read_text("utf-8")
        shown = shown[shown.index("<article") : shown.index("</article>")]
        if (ours := structure(shown)) != (theirs := structure(commonmark.render(page.read_text("utf-8")))):
            differ[str(place)] = (ours, theirs)
    assert differ == {}


def structure(html: str) -> dict[str, int]:
    """How often a page has each of these elements."""
    tags = ("h2", "h3", "li", "table", "tr", "pre", "em", "strong", "blockquote", "img")
    return {tag: len(re.findall(rf"<{tag}[ >]", html)) for tag in tags}


def test_the_menu_of_a_phone_leads_to_every_part(origin: str, page: Page) -> None:
    page.resize(*PHONE)
    page.open(f"{origin}/")
    shown = page.run("[...document.querySelectorAll('.md-nav--primary a')].map(link => link.textContent.trim())")
    assert {
        "Concepts",
        "Rate limiting",
        "Retry",
        "Plugins",
        "Stores",
        "Performance",
        "Comparison",
        "All names",
        "The gateway",
    } <= set(shown)


def test_the_search_finds_retry_after(origin: str, page: Page) -> None:
    page.resize(*DESKTOP)
    page.open(f"{origin}/")
    page.run("document.querySelector('.md-search__button').click()")
    page.wait_for(f"(root => root && (root.querySelector('input').focus(), true))({_SEARCH})")
    page.type("Retry-After")
    first = page.wait_for(f"{_SEARCH}.querySelector('a[href]')?.href")
    page.open("about:blank")  # else a result on this page would be no navigation
    page.open(first)
    assert "Retry-After" in page.run("document.querySelector('article').innerText")
    assert page.complaints == []
