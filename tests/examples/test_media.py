from __future__ import annotations

import io
import struct
import wave
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples.gateway.media import animate, hear, paint, speak

UNHURRIED = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a PNG, their checksums checked."""
    at = 8
    while at < len(png):
        (size,) = struct.unpack_from(">I", png, at)
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", png, at + 8 + size) == (zlib.crc32(kind + data),)
        yield kind, data
        at += 12 + size


@UNHURRIED
@given(st.text(max_size=12), st.floats(0.01, 1.0))
def test_a_spoken_text_is_transcribed(text: str, volume: float) -> None:
    assert hear(speak(text, volume=volume)) == text


def test_speech_takes_20_ms_a_byte() -> None:
    with wave.open(io.BytesIO(speak("Alice"))) as sound:
        assert sound.getnframes() / sound.getframerate() == pytest.approx(0.1)


@pytest.mark.parametrize(
    "sound",
    [b"", b"RIFF....WAVE", speak("Alice")[:-1_000] + bytes(1_000), speak("Alice")[:44] + bytes(range(256)) * 10],
    ids=["nothing", "no WAV", "half silence", "noise"],
)
def test_other_sounds_are_not_understood(sound: bytes) -> None:
    with pytest.raises(ValueError, match="not"):
        hear(sound)


def test_a_wav_of_another_rate_is_refused() -> None:
    with io.BytesIO() as file:
        with wave.open(file, "wb") as wav:
            wav.setparams((2, 2, 44_100, 0, "NONE", ""))
            wav.writeframes(bytes(800))
        with pytest.raises(ValueError, match="8000 Hz"):
            hear(file.getvalue())


def test_a_picture_is_a_mirrored_pattern_of_its_prompt() -> None:
    kinds = dict(chunks(paint("a white rabbit", 64, 32)))
    assert struct.unpack(">II", kinds[b"IHDR"][:8]) == (64, 32)
    pixels = zlib.decompress(kinds[b"IDAT"])
    rows = [pixels[at + 1 : at + 193] for at in range(0, len(pixels), 193)]
    assert len(rows) == 32
    for row in rows:
        colours = [row[x : x + 3] for x in range(0, 192, 3)]
        assert colours == colours[::-1]
    assert paint("a white rabbit", 64, 32) != paint("a black rabbit", 64, 32)


def test_a_film_numbers_its_frames() -> None:
    parts = list(chunks(animate("a white rabbit", 32, 32, frames=4)))
    kinds = [kind for kind, _ in parts]
    assert kinds == [b"IHDR", b"acTL", b"fcTL", b"IDAT", *[b"fcTL", b"fdAT"] * 3, b"IEND"]
    numbers = [struct.unpack(">I", data[:4])[0] for kind, data in parts if kind in (b"fcTL", b"fdAT")]
    assert numbers == list(range(7))
    frames = [
        zlib.decompress(data[4:] if kind == b"fdAT" else data) for kind, data in parts if kind in (b"IDAT", b"fdAT")
    ]
    assert len(set(frames)) == 4
