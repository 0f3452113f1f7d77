"""Draw curves as an SVG picture: small panels with a logarithmic x axis, and a y axis that begins at 0."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from benchmarks.report import Curves

__all__ = ["draw"]

_COLUMNS: Final = 2
_WIDTH, _HEIGHT, _GAP = 440, 250, 14
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 44, 62
_COLOURS: Final = ("#2563eb", "#d97706", "#059669", "#db2777")


def draw(drawings: Sequence[Curves]) -> str:
    """The drawings beside and below each other."""
    rows = math.ceil(len(drawings) / _COLUMNS)
    width, height = _COLUMNS * (_WIDTH + _GAP) + _GAP, rows * (_HEIGHT + _GAP) + _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="#eef1f5"/>',
    ]
    for number, drawing in enumerate(drawings):
        x, y = (
            _GAP + place * (size + _GAP)
            for place, size in zip((number % _COLUMNS, number // _COLUMNS), (_WIDTH, _HEIGHT), strict=True)
        )
        parts += [f'<g transform="translate({x},{y})">', *_panel(drawing), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _panel(drawing: Curves) -> Iterator[str]:
    xs = sorted({x for curve in drawing.curves for x, _ in curve.points})
    low, high = math.log10(1 + xs[0]), math.log10(1 + xs[-1])
    top = _round_up(max(y for curve in drawing.curves for _, y in curve.points))
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        share = (math.log10(1 + x) - low) / (high - low or 1)
        return _LEFT + share * (right - _LEFT), bottom - y / top * (bottom - _TOP)

    yield f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="#fff" stroke="#d5dbe3"/>'
    yield f'<text x="12" y="20" font-size="13" font-weight="bold">{escape(drawing.title)}</text>'
    yield f'<text x="12" y="35" font-size="9.5" fill="#667085">{escape(drawing.y)}</text>'
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * (bottom - _TOP)
        yield f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e8ee"/>'
        yield f'<text x="{_LEFT - 5}" y="{y + 3:.1f}" font-size="9" text-anchor="end">{top * share:g}</text>'
    for x in xs:
        yield (
            f'<text x="{place(x, 0)[0]:.1f}" y="{bottom + 13}" font-size="9" text-anchor="middle">{_short(x)}</text>'
        )
    grey = 'font-size="9.5" fill="#667085" text-anchor="end"'
    yield f'<text x="{right}" y="{bottom + 25}" {grey}>{escape(drawing.x)}</text>'
    for number, curve in enumerate(drawing.curves):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [place(x, y) for x, y in curve.points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in points)
        y = bottom + 38 + 14 * number
        yield f'<rect x="12" y="{y - 5}" width="10" height="3" fill="{colour}"/>'
        yield f'<text x="27" y="{y}" font-size="9.5">{escape(curve.name)}</text>'


def _round_up(value: float) -> float:
    """The next number of the form 1, 2, 2.5, 5 or 10 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if value <= step * power)


def _short(value: float) -> str:
    """A number for an axis: ``10k``, ``1M``."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
