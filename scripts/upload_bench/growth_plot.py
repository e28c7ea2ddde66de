"""The growth as a picture: what becomes of the uploads, and of what else is asked, with more rows
(to the left) and with more devices (to the right). Four small charts, so that each has its scale.

Reads what was found and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench_tools import svg
from bench_tools.machine import in_words

WIDTH, HEIGHT = svg.WIDTH // 2, 210  # of a chart
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 44, 40  # margins within it
INDENT = 26  # of the first and the last point from the ends of the axis
NAME_WIDTH = 116
TITLE = "An upload, a claim and /health, as the table and the fleet grow"


@dataclass(frozen=True)
class Line:
    """A name, and a value for each place on the axis."""

    name: str
    values: Sequence[float]


def plot(found: dict[str, Any]) -> str:
    """An SVG document."""
    charts = [
        f'<g transform="translate({x * WIDTH},{svg.TOP + y * HEIGHT})">{chart}</g>'
        for x, key in enumerate(("rows", "devices"))
        for y, chart in enumerate(_charts(found, key))
    ]
    return svg.document(TITLE, in_words(found["machine"]), svg.TOP + 2 * HEIGHT, charts)


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
    parts = [*_grid(top), *_names(lines)]
    for index, place in enumerate(places):
        x = _x(index, len(places))
        parts.append(svg.text(x, HEIGHT - BOTTOM + 15, place, anchor="middle", kind="quiet"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(svg.text(middle, HEIGHT - 8, axis, anchor="middle", kind="quiet"))
    for line, colour in zip(lines, svg.COLOURS, strict=False):
        parts += _draw(line, top, colour)
    return "".join(parts)


def _grid(top: float) -> Iterator[str]:
    for value in (0.0, top / 2, top):
        y = _y(value, top)
        yield svg.path(f"M{LEFT} {y:.1f}H{WIDTH - RIGHT}", "grid")
        yield svg.text(LEFT - 5, y + 4, f"{value:.3g}", anchor="end", kind="quiet")


def _names(lines: Sequence[Line]) -> Iterator[str]:
    for index, line in enumerate(lines):
        left = LEFT + NAME_WIDTH * index
        yield svg.dot(left, 16, svg.COLOURS[index])
        yield svg.text(left + 8, 20, line.name, kind="quiet")


def _draw(line: Line, top: float, colour: str) -> Iterator[str]:
    count = len(line.values)
    points = [(_x(index, count), _y(value, top)) for index, value in enumerate(line.values)]
    yield svg.line(points, colour)
    for (x, y), value in zip(points, line.values, strict=True):
        yield svg.dot(x, y, colour)
        yield svg.text(x, y - 6, f"{value:.3g}", anchor="middle", kind="quiet")


def _x(index: int, count: int) -> float:
    """All at the same distance: they are powers of ten, or nearly, and 0."""
    share = index / (count - 1) if count > 1 else 0.5
    return LEFT + INDENT + share * (WIDTH - LEFT - RIGHT - 2 * INDENT)


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / top
