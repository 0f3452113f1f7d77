"""Content codings: the plain beginning of a body, bounded, in each coding that httpx and httpx2 may ask for."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from io import BytesIO

import pytest

from flexmw.contract import codings
from flexmw.contract.codings import Plain, decode, stable_body
from flexmw.contract.content import decompress

brotli = pytest.importorskip("brotli")
zstandard = pytest.importorskip("zstandard")

BODY = b'{"error": {"message": "no"}}' * 20


def raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data)[2:-4]


def zstd_of_unknown_size(data: bytes) -> bytes:
    writer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return bytes(writer.compress(data) + writer.flush())


ENCODERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("br", brotli.compress),
    ("zstd", zstandard.compress),
    ("zstd", zstd_of_unknown_size),
    ("gzip, br", lambda data: brotli.compress(gzip.compress(data))),
    ("", bytes),
    ("identity", bytes),
]
codes = pytest.mark.parametrize(("name", "encode"), ENCODERS)
compressing = pytest.mark.parametrize(
    ("name", "encode"), [each for each in ENCODERS if each[0] not in ("", "identity")]
)


@pytest.fixture(params=[True, False], ids=["compression.zstd", "zstandard"])
def _zstd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two packages that can read zstd."""
    if not request.param:
        first_of = codings._first_of

        def without(*names: str) -> object:
            return first_of(*(name for name in names if not name.endswith(".zstd")))

        monkeypatch.setattr(codings, "_first_of", without)
    else:
        pytest.importorskip("backports.zstd")


@codes
@pytest.mark.usefixtures("_zstd")
def test_a_whole_body_is_decoded(name: str, encode: Callable[[bytes], bytes]) -> None:
    assert decode(encode(BODY), name.upper(), limit=10_000) == Plain(BODY, is_whole=True)
    assert decompress(encode(BODY), name, 10_000) == BODY


@codes
@pytest.mark.usefixtures("_zstd")
def test_of_a_long_body_the_beginning_is_decoded(name: str, encode: Callable[[bytes], bytes]) -> None:
    plain = decode(encode(BODY * 20), name, limit=len(BODY) + 300)
    assert plain is not None
    assert (BODY * 20).startswith(plain.data)
    assert len(plain.data) <= len(BODY) + 300
    assert not plain.is_whole


@compressing
@pytest.mark.usefixtures("_zstd")
def test_a_body_that_was_cut_is_not_whole(name: str, encode: Callable[[bytes], bytes]) -> None:
    plain = decode(encode(BODY)[:-5], name, limit=10_000)
    assert plain is None or (BODY.startswith(plain.data) and not plain.is_whole)


@compressing
@pytest.mark.usefixtures("_zstd")
def test_a_damaged_body_is_not_decoded(name: str, encode: Callable[[bytes], bytes]) -> None:
    assert decode(b"\xff\xff\xff\xffno such coding", name, limit=10_000) is None


@compressing
@pytest.mark.usefixtures("_zstd")
def test_a_bomb_costs_no_more_memory_than_the_limit_allows(name: str, encode: Callable[[bytes], bytes]) -> None:
    bomb = encode(b"0" * 20_000_000)
    tracemalloc.start()
    try:
        plain = decode(bomb, name, limit=65_536)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert plain is None or len(plain.data) <= 65_536
    assert peak < 2_000_000


@pytest.mark.parametrize("name", ["rot13", "gzip, rot13", ", ".join(["gzip"] * 6)])
def test_an_unknown_coding_and_too_many_codings_are_not_decoded(name: str) -> None:
    assert decode(gzip.compress(BODY), name, limit=10_000) is None


@pytest.mark.parametrize("name", ["br", "zstd"])
def test_a_coding_without_its_package_is_not_decoded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codings, "_first_of", lambda *_: None)
    encode = brotli.compress if name == "br" else zstandard.compress
    assert decode(encode(BODY), name, limit=10_000) is None


def test_a_brotli_that_cannot_bound_what_comes_out_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        error = brotli.error

        class Decompressor:
            def process(self, data: bytes) -> bytes:
                raise AssertionError("without a bound")

    monkeypatch.setattr(codings, "_first_of", lambda *_: Old)
    assert decode(brotli.compress(BODY), "br", limit=10_000) is None


def named(data: bytes, name: str, mtime: int, *, flags: int = 0, parts: bytes = b"") -> bytes:
    """A body in gzip that says a name, a time, and further parts of the header."""
    file = BytesIO()
    with gzip.GzipFile(name, "wb", fileobj=file, mtime=mtime) as writer:
        writer.write(data)
    body = file.getvalue()
    head = body[:3] + bytes([body[3] | flags]) + body[4:10]
    return head + parts + body[10:]


def test_the_time_and_the_name_of_a_compressed_body_do_not_count() -> None:
    extra = len(BODY).to_bytes(2, "little") + BODY
    bodies = [named(BODY, name, time) for name, time in (("", 1), ("", 2), ("a.json", 3))]
    bodies.append(named(BODY, "", 3, flags=4, parts=extra))
    assert len(set(bodies)) == 4
    stable = {stable_body(body, coding) for body in bodies for coding in ("gzip", "X-Gzip", "br, gzip")}
    assert [gzip.decompress(body) for body in stable] == [BODY]
    assert stable_body(gzip.compress(BODY + b" "), "gzip") not in stable


def test_a_comment_and_a_checksum_of_the_header_do_not_count() -> None:
    plain = gzip.compress(BODY, mtime=0)
    crc = 2
    commented = plain[:3] + bytes([16 | crc]) + plain[4:10] + b"comment\0" + b"\x12\x34" + plain[10:]
    assert stable_body(commented, "gzip") == stable_body(plain, "gzip")


@pytest.mark.parametrize("size", range(24))
def test_a_header_that_is_cut_or_never_ends_leaves_the_body_as_it_is(size: int) -> None:
    for flags in (4, 8, 16, 2, 31):
        body = (b"\x1f\x8b\x08" + bytes([flags]) + b"\x01\xff" * 10)[:size]
        assert stable_body(body, "gzip") == body or stable_body(body, "gzip").startswith(b"\x1f\x8b\x08\0")


def test_a_body_that_is_not_said_to_be_compressed_stays_as_it_is() -> None:
    body = named(BODY, "a.gz", 5)
    assert all(stable_body(body, coding) is body for coding in ("", "identity", "br", "gzip, br"))
    assert stable_body(BODY, "gzip") is BODY
