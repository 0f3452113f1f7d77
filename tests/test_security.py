"""SECURITY.md: each sentence of a promise names the tests that hold it, and these tests name the promise."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
WORDS = " ".join(PAGE.split())
TESTS = re.compile(r"`(tests/[a-z_/]+\.py)`")


def promises() -> list[str]:
    _, _, after = PAGE.partition("What flexmw promises")
    listed, _, _ = after.partition("\n\n`python")
    return [" ".join(bullet.split()) for bullet in listed.split("\n- ")[1:]]


def test_each_sentence_of_a_promise_names_tests() -> None:
    sentences = [sentence for bullet in promises() for sentence in re.split(r"(?<=\))\. ", bullet)]
    assert len(sentences) >= 12
    assert [sentence for sentence in sentences if not TESTS.search(sentence)] == []
    assert [sentence for sentence in sentences if not sentence.rstrip(".").endswith(")")] == []


def test_each_named_test_exists_and_quotes_a_promise() -> None:
    files = set(TESTS.findall(PAGE))
    assert len(files) >= 15
    for file in files:
        text = " ".join((ROOT / file).read_text(encoding="utf-8").split())
        quotes = re.findall(r'SECURITY\.md: ((?:"[^"]+"(?:, | and )?)+)', text)
        quoted = [quote for each in quotes for quote in re.findall(r'"([^"]+)"', each)]
        assert quoted, file
        assert [quote for quote in quoted if quote not in WORDS] == [], file
