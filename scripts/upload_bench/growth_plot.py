"""The growth as a picture: what becomes of the uploads, and of what else is asked, with more rows
(to the left) and with more devices (to the right). Four small charts, so that each has its scale;
larger ones: bench_tools/svg.py.

Reads what was found and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 380, 210  # of a chart
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 44, 40  # margins within it
INDENT = 26  # of the first and the last point from the ends of the axis
NAME_WIDTH = 108
COLOURS = ("#2f6fbe", "#c2571a", "#3d8b37")
STYLE = """
svg { background: #ffffff; font: 11px system-ui, sans-serif }
text { fill: #1f2328 } .quiet { fill: #59636e } .grid { stroke: #d1d9e0 }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117 } text { fill: #e6edf3 } .quiet { fill: #9198a1 }
  .grid { stroke: #3d444d }
}
"""


@dataclass(frozen=True)
class Line:
    """A name, and a value for each place on the axis."""

    name: str
    values: Sequence[float]


def plot(found: dict[str, Any]) -> str:
    """An SVG document."""
    size = f'width="{2 * WIDTH}" height="{2 * HEIGHT}" viewBox="0 0 {2 * WIDTH} {2 * HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>'
    title = "<title>What an upload costs as the table and the fleet grow</title>"
    charts = [
        f'<g transform="translate({x * WIDTH},{y * HEIGHT})">{chart}</g>'
        for x, key in enumerate(("rows", "devices"))
        for y, chart in enumerate(_charts(found, key))
    ]
    return "\n".join((head, title, f"<style>{STYLE}</style>", *charts, "</svg>", ""))


def _charts(found: dict[str, Any], key: str) -> Iterator[str]:
    other = "devices" if key == "rows" else "rows"
    usual = found[f"usual_{other}"]
    sizes = sorted(
        (size for size in found["sizes"] if size[other] == usual), key=lambda size: int(size[key])
    )
    places, axis = [f"{size[key]:,}" for size in sizes], f"{key} ({usual:,} {other})"
    rate = Line("uploads a second", [size["uploads_per_second"] for size in sizes])
    cost = Line("upload, ms of CPU", [sum(size["cpu_ms"].values()) for size in sizes])
    claim = Line("claim of 10, ms", [size["call_ms"]["claim"] for size in sizes])
    health = Line("health, ms", [size["call_ms"]["health"] for size in sizes])
    yield _chart(places, [rate], axis)
    yield _chart(places, [cost, claim, health], axis)


def _chart(places: Sequence[str], lines: Sequence[Line], axis: str) -> str:
    top = 1.15 * max(max(line.values) for line in lines) or 1.0
    parts = []
    for value in (0.0, top / 2, top):
        y = _y(value, top)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(_text(LEFT - 5, y + 4, f"{value:.3g}", "quiet", "end"))
    for index, place in enumerate(places):
        parts.append(_text(_x(index, len(places)), HEIGHT - BOTTOM + 15, place, "quiet"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, axis))
    for index, line in enumerate(lines):
        left = LEFT + NAME_WIDTH * index
        parts.append(f'<circle cx="{left}" cy="16" r="4" fill="{COLOURS[index]}"/>')
        parts.append(_text(left + 8, 20, line.name, anchor="start"))
        parts += _draw(line, top, COLOURS[index])
    return "".join(parts)


def _draw(line: Line, top: float, colour: str) -> Iterator[str]:
    places = [
        (_x(index, len(line.values)), _y(value, top)) for index, value in enumerate(line.values)
    ]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for (x, y), value in zip(places, line.values, strict=True):
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
        yield _text(x, y - 6, f"{value:.3g}")


def _x(index: int, count: int) -> float:
    """All at the same distance: they are powers of ten, or nearly, and 0."""
    share = index / (count - 1) if count > 1 else 0.5
    return LEFT + INDENT + share * (WIDTH - LEFT - RIGHT - 2 * INDENT)


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / top


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{text}</text>'
