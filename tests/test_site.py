"""The pages of docs/ make a site: each link leads somewhere, and the navigation names each page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import flexmw
from scripts.site import ROOT
from scripts.site.docstrings import markdown, summary
from scripts.site.layout import BadSite, laid_out
from scripts.site.links import Link, anchors, links, rewrite, slug
from scripts.site.reference import reference_pages

NAVIGATION = '[project]\nnav = [\n    { "Home" = "index.md" },\n]\n'


def repository(folder: Path, **pages: str) -> Path:
    (folder / "docs").mkdir()
    (folder / "zensical.toml").write_text(NAVIGATION)
    (folder / "README.md").write_text("# Read me\n\n## Install it\n")
    for name, text in pages.items():
        (folder / "docs" / f"{name}.md").write_text(text)
    return folder


def faults(root: Path) -> list[str]:
    with pytest.raises(BadSite) as caught:
        laid_out({}, root)
    return caught.value.faults


def test_every_page_of_this_repository_has_its_place_and_no_dead_link() -> None:
    files = laid_out(reference_pages())
    assert "ratelimit.md" in files
    assert "source/examples/gateway/README.md" in files


def test_a_link_to_nothing_is_named_with_its_line(tmp_path: Path) -> None:
    root = repository(tmp_path, index="# Home\n\nSee [this](absent.md).\n")
    assert faults(root) == ["docs/index.md:3: absent.md: there is no such file"]


def test_a_link_to_a_heading_that_does_not_exist_is_named(tmp_path: Path) -> None:
    root = repository(
        tmp_path, index="# Home\n\n[a](#home) [b](#away) [c](../README.md#install-it) [d](../README.md#no)\n"
    )
    assert faults(root) == [
        "docs/index.md:3: #away: docs/index.md has no such heading",
        "docs/index.md:3: ../README.md#no: README.md has no such heading",
    ]


def test_a_link_out_of_the_repository_is_a_fault(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.txt").write_text("no")
    repository(root, index="[a](../../secret.txt)\n")
    assert faults(root) == ["docs/index.md:1: ../../secret.txt: there is no such file"]


def test_a_page_outside_of_the_navigation_is_a_fault_and_so_is_a_place_without_a_page(tmp_path: Path) -> None:
    assert faults(repository(tmp_path, other="# Other\n")) == [
        "other.md: no line of zensical.toml names the page",
        "zensical.toml: index.md: there is no such page",
    ]


def test_a_file_that_a_page_links_to_comes_along_as_a_page_of_its_own(tmp_path: Path) -> None:
    root = repository(tmp_path, index="[code](../tool.py) [start](../README.md) ![picture](a.svg)\n")
    (root / "tool.py").write_text('"""```"""\n')
    (root / "docs" / "a.svg").write_text("<svg/>")
    files = laid_out({}, root)
    assert files["index.md"] == b"[code](source/tool.py.md) [start](index.md) ![picture](a.svg)\n"
    assert files["source/tool.py.md"] == b'# tool.py\n\n````python\n"""```"""\n````\n'
    assert files["a.svg"] == b"<svg/>"


def test_links_in_code_are_text() -> None:
    text = "`[a](b.md)` [c](d.md#e)\n\n```py\n[f](g.md)\n```\n\n[h](https://example.org/i) [j](#k)"
    assert list(links(text)) == [Link(1, "d.md", "e"), Link(7, "", "k")]
    assert rewrite(text, str.upper) == text.replace("d.md#e", "D.MD#e")


def test_anchors_are_those_of_a_forge() -> None:
    assert slug("429, Retry-After: 2 & more") == "429-retry-after-2--more"
    assert slug("The `key` of [a page](b.md)") == "the-key-of-a-page"
    assert anchors("# A\n\n## B\n\n```sh\n# C\n```\n\n## B\n") == {"a", "b", "b-1"}


def test_every_program_that_a_page_names_exists() -> None:
    names = {
        name
        for page in [ROOT / "README.md", *ROOT.glob("docs/*.md")]
        for name in re.findall(r"python -m ((?:benchmarks|examples|scripts)[\w.]*)", page.read_text("utf-8"))
    }
    assert len(names) > 10
    places = {name: ROOT / name.replace(".", "/") for name in names}
    assert [name for name, place in places.items() if not (place.is_dir() or place.with_suffix(".py").is_file())] == []


def test_every_environment_that_a_page_names_exists() -> None:
    known = re.findall(r"^\[testenv:([\w-]+)\]", (ROOT / "tox.ini").read_text("utf-8"), re.MULTILINE)
    texts = "".join(page.read_text("utf-8") for page in [ROOT / "README.md", *ROOT.glob("docs/*.md")])
    assert set(re.findall(r"tox (?:run )?-q?e ([a-z-]+)", texts)) <= set(known)


def test_the_reference_has_an_entry_for_each_public_name() -> None:
    pages = reference_pages()
    headings = {line for page in pages.values() for line in page.split("\n") if line.startswith("## ")}
    assert {f"## {name}" for name in flexmw.__all__} <= headings | {"## httpx", "## httpx2"}
    assert "Outcome(\n    outcome: Result,\n    attempts: int," in pages["reference/functions.md"]
    assert "- **Raises** `ConfigError`: `status` is not an error status." in pages["reference/errors.md"]
    assert "](../tokens.md#money)" in pages["reference/components.md"]


def test_a_docstring_reads_as_markdown() -> None:
    text = """Send ``x`` to :class:`flexmw.Retry`, <never> twice.

    Like this::

        send(x)

    >>> 1
    1

    :param x: what is sent,
        in bytes; see [Paths](#paths).
    :return: the :data:`Outcome`.
    :raises ConfigError: ``x`` is empty.
    """
    assert markdown(text, "../retry.md") == (
        "Send `x` to `flexmw.Retry`, &lt;never> twice.\n\nLike this:\n\n```python\nsend(x)\n```\n\n"
        "```pycon\n>>> 1\n1\n```\n\n| name | meaning |\n|---|---|\n"
        "| `x` | what is sent, in bytes; see [Paths](../retry.md#paths). |\n\n"
        "**Returns** the `Outcome`.\n\n- **Raises** `ConfigError`: `x` is empty."
    )
    assert summary(text) == "Send `x` to `flexmw.Retry`, &lt;never> twice."
