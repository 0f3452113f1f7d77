"""Content codings: the plain beginning of a body, bounded, in each coding that httpx and httpx2 may ask for."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest

from flexmw.contract import codings
from flexmw.contract.codings import Plain, decode
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
