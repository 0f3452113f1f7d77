"""A canvas for diagrams of boxes, arrows and tables. Colours are readable on light and dark pages: it has a ground."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final, Literal

__all__ = ["Canvas", "Colour"]

Colour = Literal["blue", "green", "amber", "red", "grey", "plain"]

_FILL: Final[dict[Colour, tuple[str, str, str]]] = {
    "blue": ("#e8effd", "#2563eb", "#1e3a8a"),
    "green": ("#e3f5ec", "#059669", "#065f46"),
    "amber": ("#fdf1df", "#d97706", "#7c3f00"),
    "red": ("#fde8e8", "#dc2626", "#7f1d1d"),
    "grey": ("#eef1f5", "#98a2b3", "#475467"),
    "plain": ("#ffffff", "#98a2b3", "#1d2433"),
}
"""The fill, the stroke and the text of a colour."""

_INK: Final = "#1d2433"
_SOFT: Final = "#5d6878"
_SANS: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"

_ARROW_HEAD: Final = (
    '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    f'<path d="M0 0L8 4L0 8z" fill="{_SOFT}"/></marker></defs>'
)


class Canvas:
    """Shapes in the order in which they are drawn, in pixels.

    :param title: what the picture shows, for readers who do not see it.
    """

    def __init__(self, width: int, height: int, title: str) -> None:
        size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="{_SANS}" font-size="14">',
            f"<title>{escape(title)}</title>",
            _ARROW_HEAD,
            f'<rect width="{width}" height="{height}" rx="10" fill="#fbfcfe" stroke="#d5dbe3"/>',
        ]

    def box(
        self,
        x: int,
        y: int,
        width: int,
        height: int,
        lines: Sequence[str],
        colour: Colour = "plain",
        *,
        dashed: bool = False,
    ) -> None:
        """A box with lines of text in its middle; the first line is bold where there are several."""
        fill, stroke, ink = _FILL[colour]
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{stroke}"{dashes}/>'
        )
        first = y + height / 2 + 5 - 9 * (len(lines) - 1)
        for number, line in enumerate(lines):
            weight = ' font-weight="600"' if number == 0 and len(lines) > 1 else ""
            size = ' font-size="12"' if number else ""
            place = f'x="{x + width / 2:g}" y="{first + 18 * number:g}" text-anchor="middle"'
            self._parts.append(f'<text {place} fill="{ink}"{weight}{size}>{escape(line)}</text>')

    def text(
        self,
        x: float,
        y: float,
        line: str,
        *,
        size: int = 14,
        bold: bool = False,
        soft: bool = False,
        middle: bool = False,
    ) -> None:
        """One line of text; ``y`` is its base line."""
        weight = ' font-weight="600"' if bold else ""
        anchor = ' text-anchor="middle"' if middle else ""
        style = f'font-size="{size}" fill="{_SOFT if soft else _INK}"{weight}{anchor}'
        self._parts.append(f'<text x="{x:g}" y="{y:g}" {style}>{escape(line)}</text>')

    def arrow(self, x1: float, y1: float, x2: float, y2: float, *, dashed: bool = False) -> None:
        """A straight arrow from the first point to the second."""
        dashes = ' stroke-dasharray="4 4"' if dashed else ""
        self._parts.append(
            f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{_SOFT}" stroke-width="1.5"{dashes}'
            ' marker-end="url(#head)"/>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """A thin rule."""
        self._parts.append(f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="#d5dbe3"/>')

    def cross(self, x: float, y: float) -> None:
        """A red cross: something is cut here."""
        path = f"M{x - 6:g} {y - 6:g}l12 12m-12 0l12 -12"
        self._parts.append(f'<path d="{path}" stroke="#dc2626" stroke-width="3" stroke-linecap="round"/>')

    def svg(self) -> str:
        """The picture."""
        return "\n".join([*self._parts, "</svg>", ""])
