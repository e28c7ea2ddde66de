"""Plots as SVG, written by hand. Readable on a light and on a dark page.

What the figures mean does not belong here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH = 760
TOP = 64  # below the title
COLOURS = ("#2f6fbe", "#c2571a", "#3d8b37")  # of what belongs together
_BAR_LEFT, _BAR_ROOM, _BAR_STEP = 150, 170, 46
_STYLE = """
svg { background: #ffffff; font: 13px system-ui, sans-serif }
text { fill: #1f2328 } .quiet { fill: #59636e; font-size: 11px }
.title { font-size: 16px; font-weight: 600 }
.bar { fill: #8c9aa8 } .marked { fill: #2f6fbe }
.spread { stroke: #1f2328; fill: none } .grid { stroke: #d1d9e0; fill: none }
.line { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117 } text { fill: #e6edf3 } .quiet { fill: #9198a1 }
  .spread { stroke: #e6edf3 } .grid { stroke: #3d444d } .bar { fill: #6e7681 }
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
    return document(title, subtitle, TOP + _BAR_STEP * len(rows) + 8, parts)


def _bar(place: int, row: Bar, scale: float) -> Iterator[str]:
    top = TOP + _BAR_STEP * place
    middle = top + 11
    low, high = (_BAR_LEFT + scale * value for value in (row.low, row.high))
    kind = "bar marked" if row.marked else "bar"
    yield text(_BAR_LEFT - 8, middle + 4, row.label, anchor="end")
    yield _rect(_BAR_LEFT, top, scale * row.value, 22, kind)
    yield path(
        f"M{low:.1f} {middle}H{high:.1f}M{low:.1f} {top + 6}v10M{high:.1f} {top + 6}v10", "spread"
    )
    yield text(high + 8, middle + 4, row.text)
    yield text(_BAR_LEFT, top + 34, row.remark, kind="quiet")


def document(title: str, subtitle: str, height: int, parts: Iterable[str]) -> str:
    """An SVG document, WIDTH wide, with its title above the parts."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        f' width="{WIDTH}" height="{height}">'
    )
    texts = [text(16, 26, title, kind="title"), text(16, 44, subtitle, kind="quiet")]
    name = f"<title>{escape(title)}</title>"
    return "\n".join([head, name, f"<style>{_STYLE}</style>", *texts, *parts, "</svg>", ""])


def text(x: float, y: float, words: str, *, anchor: str = "start", kind: str = "") -> str:
    """Its base line at `y`."""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} class="{kind}">{escape(words)}</text>'


def _rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    return f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" class="{kind}"/>'


def line(points: Iterable[tuple[float, float]], colour: str) -> str:
    """From point to point."""
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{places}" class="line" stroke="{colour}"/>'


def dot(x: float, y: float, colour: str) -> str:
    """One point of a line, or what stands for the line beside its name."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'


def path(d: str, kind: str) -> str:
    """Strokes, in the language of the attribute `d`."""
    return f'<path d="{d}" class="{kind}"/>'
