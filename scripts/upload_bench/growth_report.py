"""How the growth is told to people: a table. The picture: growth_plot.py.

Reads what was found and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def tell(found: dict[str, Any]) -> Iterator[str]:
    """For people."""
    yield (
        "growth: uploads over {connections} connections to sites of different sizes, in turn:"
        " medians of {rounds} rounds of {seconds:g} s (MTU {mtu}); ratio: to the first"
    ).format_map(found)
    yield f"{'':37}{'ms of an upload':>18}{'ms of CPU for it':>21}{'ms of an answer':>25}"
    yield (
        f"  {'devices':>8}{'rows':>10}{'uploads/s':>10}{'ratio':>7}{'p50':>9}{'p99':>9}"
        f"{'service':>9}{'PostgreSQL':>12}{'claim':>8}{'health':>8}{'devices':>9}"
    )
    for size in found["sizes"]:
        yield _line(size)
    yield (
        "  {most_rows} rows: {ratio} times the uploads a second of {least_rows} rows: must be above"
        " {least_ratio:g}"
    ).format_map(found)
    errors = sum(size["errors"] for size in found["sizes"])
    yield f"  errors {errors}: must be 0"


def _line(size: dict[str, Any]) -> str:
    cpu, calls = size["cpu_ms"], size["call_ms"]
    return (
        f"  {size['devices']:>8}{size['rows']:>10}{size['uploads_per_second']:>10}"
        f"{size['ratio']:>7.2f}{size['p50_ms']:>9.1f}{size['p99_ms']:>9.1f}"
        f"{cpu['service']:>9.2f}{cpu['postgresql']:>12.2f}"
        f"{calls['claim']:>8.1f}{calls['health']:>8.1f}{calls['devices']:>9.1f}"
    )
