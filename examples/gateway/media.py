"""Pictures and sounds made of nothing but the prompt. Pure: the same words give the same bytes.

>>> hear(speak("Oh dear!"))
'Oh dear!'
>>> paint("a white rabbit", 64, 64)[:8]
b'\\x89PNG\\r\\n\\x1a\\n'
"""

from __future__ import annotations

import colorsys
import io
import math
import struct
import sys
import wave
import zlib
from array import array
from hashlib import blake2b
from operator import mul

__all__ = ["animate", "hear", "paint", "speak"]

RATE = 8_000  # samples a second
FRAME = 80  # samples a tone lasts; each tone below fits it a whole number of times, so that no tone hears another
TONES = [
    (
        [math.sin(2 * math.pi * cycles * i / FRAME) for i in range(FRAME)],
        [math.cos(2 * math.pi * cycles * i / FRAME) for i in range(FRAME)],
    )
    for cycles in range(6, 22)
]


def speak(text: str, *, volume: float = 0.5) -> bytes:
    """A WAV that says `text` in tones of 10 ms: two of sixteen for every byte of UTF-8."""
    samples = array("h")
    for byte in text.encode():
        for nibble in (byte >> 4, byte & 15):
            samples.extend(round(32_767 * volume * level) for level in TONES[nibble][0])
    if sys.byteorder == "big":
        samples.byteswap()
    with io.BytesIO() as file:
        with wave.open(file, "wb") as wav:
            wav.setparams((1, 2, RATE, len(samples), "NONE", "not compressed"))
            wav.writeframes(samples.tobytes())
        return file.getvalue()


def hear(sound: bytes) -> str:
    """The text of a WAV made by `speak`. Raises ValueError for any other sound."""
    try:
        with wave.open(io.BytesIO(sound)) as wav:
            if (wav.getnchannels(), wav.getsampwidth(), wav.getframerate()) != (1, 2, RATE):
                raise ValueError(f"not a mono 16-bit WAV of {RATE} Hz")
            samples = array("h", wav.readframes(wav.getnframes()))
    except (wave.Error, EOFError) as exc:
        raise ValueError("not a WAV file") from exc
    if sys.byteorder == "big":
        samples.byteswap()
    nibbles = [_tone(samples[at : at + FRAME]) for at in range(0, len(samples) - FRAME + 1, FRAME)]
    return bytes(high << 4 | low for high, low in zip(nibbles[::2], nibbles[1::2], strict=True)).decode()


def _tone(frame: array[int]) -> int:
    loudness = [sum(map(mul, frame, sine)) ** 2 + sum(map(mul, frame, cosine)) ** 2 for sine, cosine in TONES]
    energy = FRAME / 2 * sum(map(mul, frame, frame))
    if energy == 0 or max(loudness) < 0.9 * energy:
        raise ValueError("this sound is not one of the tones")
    return loudness.index(max(loudness))


def paint(prompt: str, width: int, height: int) -> bytes:
    """A PNG: a mirrored pattern of eight by eight tiles, its colours and tiles chosen by the prompt's hash."""
    return _png(width, height, [_pattern(prompt, width, height, 0.0)])


def animate(prompt: str, width: int, height: int, *, frames: int) -> bytes:
    """An animated PNG of four frames a second: the same pattern, its colours going once round the wheel."""
    return _png(width, height, [_pattern(prompt, width, height, turn / frames) for turn in range(frames)])


def _pattern(prompt: str, width: int, height: int, turn: float) -> bytes:
    digest = blake2b(prompt.encode(), digest_size=8).digest()
    hue = digest[0] / 256 + turn
    inks = [bytes(round(255 * part) for part in colorsys.hls_to_rgb(hue % 1, light, 0.6)) for light in (0.9, 0.45)]
    rows: list[bytes] = []
    for y in range(height):
        bits = digest[y * 8 // height]
        tiles = [bits >> min(tile, 7 - tile) & 1 for tile in range(8)]
        rows.append(b"\0" + b"".join(inks[tiles[x * 8 // width]] for x in range(width)))  # \0: no filter on this row
    return zlib.compress(b"".join(rows))


def _png(width: int, height: int, frames: list[bytes]) -> bytes:
    """PNG, third edition: IDAT is the still picture and the first frame, fcTL and fdAT are the others."""
    chunks = [_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))]
    if len(frames) > 1:
        chunks.append(_chunk(b"acTL", struct.pack(">II", len(frames), 0)))
    number = 0
    for index, frame in enumerate(frames):
        if len(frames) > 1:
            chunks.append(_chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, 0, 0, 1, 4, 0, 0)))
            number += 1
        if index == 0:
            chunks.append(_chunk(b"IDAT", frame))
        else:
            chunks.append(_chunk(b"fdAT", struct.pack(">I", number) + frame))
            number += 1
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
