"""Plots as SVG, written by hand: bars and lines. Readable on a light and on a dark page.

What the figures mean does not belong here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH = 760
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 64, 52
_BAR_LEFT, _BAR_ROOM, _BAR_STEP = 150, 170, 46
_HEIGHT = 360
_COLOURS = ("#2f6fbe", "#c2571a", "#3d8b37", "#8a4fb0", "#b8860b")
_STYLE = """
svg { background: #ffffff; font: 13px system-ui, sans-serif }
text { fill: #1f2328 } .quiet { fill: #59636e; font-size: 11px }
.title { font-size: 16px; font-weight: 600 }
.bar { fill: #8c9aa8 } .marked { fill: #2f6fbe }
.spread, .axis { stroke: #1f2328; fill: none } .grid { stroke: #d1d9e0; fill: none }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117 } text { fill: #e6edf3 } .quiet { fill: #9198a1 }
  .spread, .axis { stroke: #e6edf3 } .grid { stroke: #3d444d } .bar { fill: #6e7681 }
}
"""


@dataclass(frozen=True)
class Bar:
    """One bar, with the spread of what it is the middle of, and what is written behind it."""

    label: str
    value: float
    low: float
    high: float
    text: str
    remark: str = ""
    marked: bool = False


def bars(title: str, subtitle: str, rows: Sequence[Bar]) -> str:
    """Horizontal bars from 0, one below the other."""
    most = max((row.high for row in rows), default=0) or 1
    scale = (WIDTH - _BAR_LEFT - _BAR_ROOM) / most
    parts = [part for place, row in enumerate(rows) for part in _bar(place, row, scale)]
    return _document(title, subtitle, _TOP + _BAR_STEP * len(rows) + 8, parts)


def _bar(place: int, row: Bar, scale: float) -> Iterator[str]:
    top = _TOP + _BAR_STEP * place
    middle = top + 11
    low, high = (_BAR_LEFT + scale * value for value in (row.low, row.high))
    kind = "bar marked" if row.marked else "bar"
    yield _text(_BAR_LEFT - 8, middle + 4, row.label, anchor="end")
    yield _rect(_BAR_LEFT, top, scale * row.value, 22, kind)
    yield _path(f"M{low:.1f} {middle}H{high:.1f}M{low:.1f} {top + 6}v10M{high:.1f} {top + 6}v10")
    yield _text(high + 8, middle + 4, row.text)
    yield _text(_BAR_LEFT, top + 34, row.remark, kind="quiet")


def lines(
    title: str,
    subtitle: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x_label: str,
    y_label: str,
) -> str:
    """Lines through points (x, y), named; x on a logarithmic scale, with 0 left of it; y from 0."""
    points = [point for line in series.values() for point in line]
    frame = _Frame.around(points)
    parts = [*frame.axes(sorted({x for x, _ in points}), x_label, y_label)]
    for place, (name, line) in enumerate(series.items()):
        parts += _line(frame, name, line, place)
    return _document(title, subtitle, _HEIGHT, parts)


@dataclass(frozen=True)
class _Frame:
    """From values to places."""

    least: float  # x that is not 0
    low: float  # logarithms of x
    high: float
    top: float  # of y

    @classmethod
    def around(cls, points: Sequence[tuple[float, float]]) -> _Frame:
        values = [x for x, _ in points]
        least = min((x for x in values if x > 0), default=1.0)
        low = math.log10(least) - (0.0 in values)
        high = max(math.log10(max([least, *values])), low + 0.01)
        return cls(least, low, high, _round_up(max((y for _, y in points), default=1)))

    def x(self, value: float) -> float:
        share = (math.log10(value or self.least / 10) - self.low) / (self.high - self.low)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - value / self.top * (_HEIGHT - _BOTTOM - _TOP - 16)

    def axes(self, values: Sequence[float], x_label: str, y_label: str) -> Iterator[str]:
        for step in range(5):
            value = self.top * step / 4
            kind = "grid" if step else "axis"
            yield _path(f"M{_LEFT} {self.y(value):.1f}H{WIDTH - _RIGHT}", kind)
            yield _text(_LEFT - 8, self.y(value) + 4, f"{value:,.6g}", anchor="end", kind="quiet")
        for value in values:
            text = f"{value:,.6g}"
            yield _text(self.x(value), _HEIGHT - 34, text, anchor="middle", kind="quiet")
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        yield _text(middle, _HEIGHT - 12, x_label, anchor="middle")
        yield _text(_LEFT - 50, _TOP - 2, y_label)


def _line(
    frame: _Frame, name: str, line: Sequence[tuple[float, float]], place: int
) -> Iterator[str]:
    colour = _COLOURS[place % len(_COLOURS)]
    places = [f"{frame.x(x):.1f} {frame.y(y):.1f}" for x, y in line]
    yield f'<path d="M{"L".join(places)}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for (x, y), where in zip(line, places, strict=True):
        left, top = where.split()
        hint = f"<title>{escape(name)}: {x:,.6g}, {y:,.6g}</title>"
        yield f'<circle cx="{left}" cy="{top}" r="3.5" fill="{colour}">{hint}</circle>'
    left_of_name = _LEFT + 150 * place + 90
    yield f'<circle cx="{left_of_name}" cy="{_TOP - 6}" r="6" fill="{colour}"/>'
    yield _text(left_of_name + 12, _TOP - 2, name)


def _round_up(value: float) -> float:
    """To a number that quarters well."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(step * unit for step in (1, 2, 4, 8, 10) if step * unit >= value)


def _document(title: str, subtitle: str, height: int, parts: Iterable[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        f' width="{WIDTH}" height="{height}">'
    )
    texts = [_text(16, 26, title, kind="title"), _text(16, 44, subtitle, kind="quiet")]
    name = f"<title>{escape(title)}</title>"
    return "\n".join([head, name, f"<style>{_STYLE}</style>", *texts, *parts, "</svg>", ""])


def _text(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>'
    )


def _rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    return f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" class="{kind}"/>'


def _path(d: str, kind: str = "spread") -> str:
    return f'<path d="{d}" class="{kind}"/>'
