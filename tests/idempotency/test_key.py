"""Keys as they come on the wire."""

from __future__ import annotations

import gzip
import string
from hashlib import sha256

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from flexmw.idempotency.key import MAX_KEY, fingerprint, parse_key

BARE = "".join(sorted(set(string.printable[:94]) - set('",;')))
bare = st.text(BARE, min_size=1, max_size=MAX_KEY)
printable = st.text(string.printable[:95], min_size=1, max_size=MAX_KEY)


def quoted(text: str) -> bytes:
    return b'"' + text.replace("\\", "\\\\").replace('"', '\\"').encode() + b'"'


@settings(deadline=None)
@given(bare)
def test_a_bare_key_and_the_same_key_in_quotes_are_one(text: str) -> None:
    assert parse_key([text.encode()]) == parse_key([quoted(text)]) == parse_key([b"  " + text.encode() + b"\t"]) == text


@settings(deadline=None)
@given(printable)
def test_a_quoted_key_may_hold_every_printable_character(text: str) -> None:
    assert parse_key([quoted(text)]) == text
    assert parse_key([quoted(text) + b";a=1"]) == text


@settings(deadline=None)
@given(st.binary(max_size=2 * MAX_KEY))
def test_any_bytes_are_a_bounded_printable_key_or_an_error(value: bytes) -> None:
    try:
        key = parse_key([value])
    except ValueError:
        return
    assert key is not None
    assert 0 < len(key) <= MAX_KEY
    assert key.isascii()
    assert key.isprintable()


def test_no_header_is_no_key_and_the_same_key_twice_is_one() -> None:
    assert parse_key([]) is None
    assert parse_key([b"a", b'"a"']) == "a"


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([b"a", b"b"], "several different keys"),
        ([b"a, b"], "quoted"),
        ([b""], "empty"),
        ([b'""'], "empty"),
        ([b"   "], "empty"),
        ([b"x" * 256], "longer than 255"),
        ([b"x" * 5000], "longer than 255"),
        ([b'"' + b'\\"' * 256 + b'"'], "longer than 255"),
        ([b'"open'], "begins with a quote"),
        ([b'"bad\\escape"'], "begins with a quote"),
        ([b"caf\xe9"], "quoted"),
        ([b"a\x00b"], "quoted"),
    ],
)
def test_what_is_no_key_is_refused_in_words(values: list[bytes], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_key(values)


parts = st.tuples(st.sampled_from(["POST", "PATCH"]), st.text(max_size=8), st.binary(max_size=8), st.binary(max_size=8))


@settings(deadline=None)
@given(parts, parts)
def test_two_requests_have_one_fingerprint_exactly_if_they_are_equal(
    one: tuple[str, str, bytes, bytes], other: tuple[str, str, bytes, bytes]
) -> None:
    assert (fingerprint(*one) == fingerprint(*other)) is (one == other)


@pytest.mark.parametrize("form", ["multipart/form-data; boundary={}", 'Multipart/Mixed; charset=x; boundary="{}"'])
def test_the_boundary_of_a_multipart_body_does_not_count(form: str) -> None:
    prints = {
        fingerprint("POST", "/", b"", b"--%b\r\n\r\n1\r\n--%b--" % (name, name), form.format(name.decode()).encode())
        for name in (b"aaa", b"bbb")
    }
    assert len(prints) == 1
    assert fingerprint("POST", "/", b"", b"--aaa 1", b"text/plain") != fingerprint("POST", "/", b"", b"-- 1")


def test_the_time_of_a_compressed_body_does_not_count() -> None:
    one, later = (gzip.compress(b"{}" * 100, mtime=time) for time in (1, 2))
    assert fingerprint("POST", "/", b"", one, b"", b"gzip") == fingerprint("POST", "/", b"", later, b"", b"gzip")
    assert fingerprint("POST", "/", b"", one) != fingerprint("POST", "/", b"", later)
    other = gzip.compress(b"[]" * 100, mtime=1)
    assert fingerprint("POST", "/", b"", one, b"", b"gzip") != fingerprint("POST", "/", b"", other, b"", b"gzip")


@pytest.mark.parametrize("path", ["/orders", "/" + "a" * 300])
@pytest.mark.parametrize("body", [b"", b"x" * 1024, b"x" * 1025])
def test_a_fingerprint_hashes_each_part_behind_its_length(path: str, body: bytes) -> None:
    parts = [b"POST", path.encode(), b"q=1", body]
    expected = sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).hexdigest()
    assert [fingerprint("post", path, b"q=1", body) for _ in range(2)] == [expected] * 2
