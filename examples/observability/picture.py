"""`python -m examples.observability.picture http://127.0.0.1:9090 > dashboard.svg`: the panels, drawn as Prometheus
replies, for those who have no Grafana at hand. It needs no package.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, NamedTuple

from examples.observability.panels import PANELS, Panel

__all__ = ["Series", "ask", "draw", "main"]

_COLUMNS, _WIDTH, _HEIGHT, _GAP = 3, 420, 250, 14
_LEFT, _TOP, _PLOT_WIDTH, _PLOT_HEIGHT = 52, 40, 352, 120
_COLOURS = (
    "#2563eb",
    "#dc2626",
    "#059669",
    "#d97706",
    "#7c3aed",
    "#0891b2",
    "#db2777",
    "#4b5563",
    "#65a30d",
    "#9333ea",
)
_MOST_LEGENDS = 5


class Series(NamedTuple):
    """One line of a panel: its legend, and its points as Unix seconds and value."""

    legend: str
    points: list[tuple[float, float]]


def ask(url: str, panel: Panel, *, start: float, end: float, step: float, window: str) -> list[Series]:
    """The series of a panel, as Prometheus replies.

    :param window: replaces `$__rate_interval`.
    """
    found: list[Series] = []
    for query, legend in panel.queries:
        parameters = {"query": query.replace("$__rate_interval", window), "start": start, "end": end, "step": step}
        address = f"{url}/api/v1/query_range?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(address, timeout=30) as response:
            results: list[dict[str, Any]] = json.load(response)["data"]["result"]
        found += [_series(result, legend) for result in results]
    return sorted((series for series in found if series.points), key=lambda series: -max(y for _, y in series.points))


def _series(result: dict[str, Any], legend: str) -> Series:
    labels: dict[str, str] = result["metric"]
    name = re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), legend).strip()
    points = [(float(at), float(value)) for at, value in result["values"]]
    return Series(name, [(at, value) for at, value in points if math.isfinite(value)])


def draw(charts: Sequence[tuple[Panel, Sequence[Series]]], *, start: float, end: float) -> str:
    """The panels as an SVG picture."""
    rows = math.ceil(len(charts) / _COLUMNS)
    width, height = _COLUMNS * (_WIDTH + _GAP) + _GAP, rows * (_HEIGHT + _GAP) + _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="#eef1f5"/>',
    ]
    for number, (panel, series) in enumerate(charts):
        x = _GAP + number % _COLUMNS * (_WIDTH + _GAP)
        y = _GAP + number // _COLUMNS * (_HEIGHT + _GAP)
        parts += [f'<g transform="translate({x},{y})">', *_panel(panel, series, start, end), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, series: Sequence[Series], start: float, end: float) -> Iterator[str]:
    top = max((value for line in series for _, value in line.points), default=0.0) * 1.1 or 1.0
    yield f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="#fff" stroke="#d5dbe3"/>'
    yield f'<text x="12" y="18" font-size="13" font-weight="bold">{escape(panel.title)}</text>'
    yield f'<text x="12" y="32" font-size="9.5" fill="#667085">{escape(panel.question)}</text>'
    for share in (0.0, 0.5, 1.0):
        y = _TOP + _PLOT_HEIGHT * (1 - share)
        yield f'<line x1="{_LEFT}" x2="{_LEFT + _PLOT_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e8ee"/>'
        at = f'x="{_LEFT - 5}" y="{y + 3:.1f}"'
        yield f'<text {at} font-size="9" text-anchor="end">{_label(top * share, panel)}</text>'
    for place, line in enumerate(series[: len(_COLOURS)]):
        points = " ".join(
            f"{_LEFT + _PLOT_WIDTH * (at - start) / (end - start):.1f},{_TOP + _PLOT_HEIGHT * (1 - value / top):.1f}"
            for at, value in line.points
        )
        yield f'<polyline points="{points}" fill="none" stroke="{_COLOURS[place]}" stroke-width="1.5"/>'
    if not series:
        middle = _LEFT + _PLOT_WIDTH / 2
        yield f'<text x="{middle}" y="{_TOP + 64}" font-size="11" text-anchor="middle" fill="#98a2b3">no data</text>'
    for place, line in enumerate(series[:_MOST_LEGENDS]):
        y = _TOP + _PLOT_HEIGHT + 16 + 14 * place
        more = f" (and {len(series) - _MOST_LEGENDS} more)" if place + 1 == _MOST_LEGENDS < len(series) else ""
        yield f'<rect x="12" y="{y - 8}" width="10" height="3" fill="{_COLOURS[place]}"/>'
        yield f'<text x="27" y="{y - 3}" font-size="9.5">{escape(line.legend)}{more}</text>'


def _label(value: float, panel: Panel) -> str:
    if panel.unit == "percentunit":
        return f"{value:.0%}"
    if panel.unit == "s":
        return f"{value:.2g} s" if value >= 0.1 or not value else f"{1000 * value:.2g} ms"
    return f"{value:.3g}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m examples.observability.picture", description=__doc__)
    parser.add_argument("prometheus", help="the URL of a Prometheus, such as http://127.0.0.1:9090")
    parser.add_argument("--minutes", type=float, default=60.0, help="how far back; 60 unless given")
    parser.add_argument("--window", default="1m", help="the window of rates; 1m unless given")
    options = parser.parse_args(arguments)
    end = time.time()
    start = end - 60 * options.minutes
    step = max(1.0, (end - start) / 180)
    charts = [
        (panel, ask(options.prometheus.rstrip("/"), panel, start=start, end=end, step=step, window=options.window))
        for panel in PANELS
    ]
    print(draw(charts, start=start, end=end), end="")


if __name__ == "__main__":
    main()
