"""A look at the headers of both libraries, and of anything else."""

from __future__ import annotations

from typing import Any

import httpx
import httpx2
import pytest

from flexmw.kit.headers import has, has_any

NAMES = frozenset({b"idempotency-key", b"x-count"})


class OtherLines:
    """Headers of a library that keeps pairs where httpx keeps triples."""

    def __init__(self, lines: list[tuple[str, str]]) -> None:
        self._list = [(name.encode(), value.encode()) for name, value in lines]

    def __contains__(self, name: str) -> bool:
        return any(known.decode().lower() == name for known, _ in self._list)


MAKES: list[Any] = [httpx.Headers, httpx2.Headers, OtherLines, dict]
IDS = ["httpx", "httpx2", "other lines", "dict"]


@pytest.mark.parametrize("make", MAKES, ids=IDS)
def test_a_name_is_found_and_a_value_is_not_taken_for_one(make: Any) -> None:
    assert has_any(make([("accept", "*/*"), ("x-count", "1")]), NAMES)
    assert not has_any(make([("accept", "x-count"), ("idempotency-key-ttl", "1")]), NAMES)
    assert not has_any(make([]), NAMES)
    assert has(make([("accept", "*/*"), ("x-count", "1")]), b"x-count")
    assert not has(make([("accept", "x-count")]), b"x-count")


@pytest.mark.parametrize("make", MAKES[:3], ids=IDS[:3])
def test_the_case_of_a_name_does_not_matter(make: Any) -> None:
    headers = make([("Idempotency-Key", "k")])
    assert has_any(headers, NAMES)
    assert has(headers, b"idempotency-key")


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_header_that_is_set_or_removed_later_counts(library: Any) -> None:
    headers = library.Headers({"accept": "*/*"})
    headers["X-Count"] = "1"
    assert has_any(headers, NAMES)
    del headers["x-count"]
    assert not has_any(headers, NAMES)
