"""Content codings of a body that arrives in chunks: the same bytes as at once, in bounded pieces."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmw.contract.coded_stream import PIECE_BYTES, chunk_decoder

brotli = pytest.importorskip("brotli")
zstd = pytest.importorskip("backports.zstd")

CODINGS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("GZIP ", lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])),
    ("deflate", zlib.compress),
    ("deflate", lambda data: zlib.compress(data)[2:-4]),
    ("br", brotli.compress),
    ("zstd", zstd.compress),
    ("zstd", lambda data: zstd.compress(data[:9]) + zstd.compress(data[9:])),
]
each_coding = pytest.mark.parametrize(("name", "encode"), CODINGS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CODINGS)])


def decoded(name: str, *chunks: bytes) -> list[bytes]:
    decode = chunk_decoder(name)
    assert decode is not None
    return [piece for chunk in chunks for piece in decode(chunk)]


@each_coding
@given(body=st.binary(max_size=300), sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_chunks_of_any_size_give_the_same_bytes(
    name: str, encode: Callable[[bytes], bytes], body: bytes, sizes: list[int]
) -> None:
    coded, chunks = encode(body), list[bytes]()
    while coded:
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(coded[:size])
        coded = coded[size:]
    assert b"".join(decoded(name, *chunks)) == body


@each_coding
def test_the_pieces_of_a_chunk_that_expands_are_bounded(name: str, encode: Callable[[bytes], bytes]) -> None:
    body = b"a" * (5 * PIECE_BYTES + 7) + Random(0).randbytes(20_000)  # a chunk that is decoded by parts
    pieces = decoded(name, encode(body))
    assert b"".join(pieces) == body
    assert max(map(len, pieces)) <= (2 if name == "br" else 1) * PIECE_BYTES


def test_what_a_server_has_flushed_is_there_at_once() -> None:
    writer = zlib.compressobj(wbits=31)
    chunks = [writer.compress(event) + writer.flush(zlib.Z_SYNC_FLUSH) for event in (b"data: 1\n\n", b"data: 2\n\n")]
    assert decoded("gzip", *chunks) == [b"data: 1\n\n", b"data: 2\n\n"]


@each_coding
def test_a_damaged_body_is_a_value_error(name: str, encode: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        decoded(name, b"\xff" + encode(b"hello")[1:] + b"\xff" * 40)


@pytest.mark.parametrize("name", ["rot13", "gzip, br", ""])
def test_a_coding_that_cannot_be_decoded_has_no_decoder(name: str) -> None:
    assert chunk_decoder(name) is None


@pytest.mark.parametrize(("name", "packages"), [("br", ["brotli"]), ("zstd", ["compression.zstd", "backports.zstd"])])
def test_a_coding_whose_package_is_not_installed_has_no_decoder(
    name: str, packages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)  # its import raises ImportError
    assert chunk_decoder(name) is None


def test_a_brotli_that_cannot_bound_its_output_decodes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brotli, "__version__", "1.1.0")
    assert chunk_decoder("br") is None


def test_bytes_behind_the_end_of_a_deflated_body_are_left_out() -> None:
    assert decoded("deflate", zlib.compress(b"hello") + b"rest") == [b"hello"]
