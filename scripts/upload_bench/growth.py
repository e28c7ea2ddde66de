"""Whether an upload costs more when the table is large, or when there are many devices. For each
size there is a site of its own; all of them run at once and are measured in turn, so that a moment
in which the machine is slow is one for all of them. The uploads go on where the rows of the table
end, and their own rows stay: a table that begins empty has some thousands at the end. PostgreSQL
makes its checkpoints when it thinks fit.

What is done to one site: growth_site.py. How it is filled: growth_fill.py. How it is told:
growth_report.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench_tools.machine import SERVING, loopback_mtu
from lab.service import Site
from option_types import above_zero, at_least, numbers_at_least

from ingest_api.tokens import generate_token
from upload_bench.growth_fill import fill, require_room
from upload_bench.growth_plot import plot
from upload_bench.growth_report import tell
from upload_bench.growth_site import GrownSite, Size
from upload_bench.recorders import first_start

__all__ = ["Plan", "add_arguments", "plot", "run", "tell"]

LEAST_RATIO = 0.90  # of the uploads a second in the empty table


@dataclass(frozen=True)
class Plan:
    """Which sizes, and how long each is measured."""

    rows: tuple[int, ...] = (0, 100_000, 1_000_000, 10_000_000)
    devices: tuple[int, ...] = (10, 1_000, 10_000)
    rounds: int = 5
    seconds: float = 4.0  # of uploads in a round
    calls: int = 10  # of each other kind in a round
    connections: int = 16
    usual_rows: int = 100_000  # where the devices grow
    usual_devices: int = 1_000  # where the rows grow
    serving: int = SERVING  # gunicorn's workers
    mtu: int = 1500

    def sizes(self) -> list[Size]:
        """Each once; the first has the fewest rows, and the others are compared with it."""
        sizes = [Size(rows, self.usual_devices) for rows in sorted(self.rows)]
        sizes += [Size(self.usual_rows, devices) for devices in sorted(self.devices)]
        return list(dict.fromkeys(sizes))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of this part."""
    add = parser.add_argument_group("growth").add_argument
    text = "sizes of the table, with 1000 devices (default: %(default)s)"
    default = ",".join(map(str, Plan.rows))
    add("--rows", type=numbers_at_least(0), default=default, metavar="N,N", help=text)
    text = "sizes of the fleet, with 100000 rows (default: %(default)s)"
    default = ",".join(map(str, Plan.devices))
    sizes = numbers_at_least(1)
    add("--fleets", dest="devices", type=sizes, default=default, metavar="N,N", help=text)
    text = "of which the median counts, after one that does not (default: %(default)s)"
    add("--rounds", type=at_least(1), default=Plan.rounds, metavar="N", help=text)
    text = "the length of one for each (default: %(default)g; wrk takes whole ones)"
    add("--seconds", type=above_zero, default=Plan.seconds, metavar="N", help=text)


def run(folder: Path, plan: Plan, show: Callable[[str], None]) -> dict[str, Any]:
    """Fill, measure in turn; what was found."""
    sizes = plan.sizes()
    require_room(folder, sum(size.rows for size in sizes))
    with ExitStack() as stack:
        grown = [_open(stack, folder, size, plan) for size in sizes]
        for one in grown:
            _fill(one, show)
        first = first_start()
        for one in grown:
            show(f"growth: {_name(one.size)}: the service gets to know the folders")
            one.prepare(first)
        with loopback_mtu(plan.mtu) as mtu:
            _measure(grown, plan, show)
    return _facts(grown, plan) | {"mtu": mtu}


def _open(stack: ExitStack, folder: Path, size: Size, plan: Plan) -> GrownSite:
    token = generate_token()
    environ = {"ADMIN_TOKEN": token, "INTERNAL_TOKEN": token}
    place = folder / f"{size.rows}-{size.devices}"
    site = stack.enter_context(Site(place, workers=plan.serving, environ=environ))
    site.wait_for_workers()
    return GrownSite(size, site, token)


def _fill(one: GrownSite, show: Callable[[str], None]) -> None:
    one.register()
    end = datetime.fromtimestamp(first_start(), UTC)  # where the uploads will go on
    one.fill_seconds = fill(one.site, one.size.rows, end, lambda line: show(f"growth: {line}"))
    show(f"growth: {_name(one.size)}: filled in {one.fill_seconds:.0f} s")


def _measure(grown: Sequence[GrownSite], plan: Plan, show: Callable[[str], None]) -> None:
    """Each round begins with another, so that none always follows the same one, and what that has
    left to the disk. The first round is not counted: it fills caches."""
    for number in range(plan.rounds + 1):
        show(f"growth: round {number} of {plan.rounds}")
        turn = number % len(grown)
        for one in (*grown[turn:], *grown[:turn]):
            one.upload(connections=plan.connections, seconds=plan.seconds, counts=number > 0)
            if number:
                one.ask(plan.calls)


def _facts(grown: Sequence[GrownSite], plan: Plan) -> dict[str, Any]:
    sizes = [one.facts(grown[0]) for one in grown]
    by_rows = [size for size in sizes if size["devices"] == plan.usual_devices]
    least, most = by_rows[0], max(by_rows, key=lambda size: int(size["rows"]))
    kept = most["ratio"] > LEAST_RATIO and not any(size["errors"] for size in sizes)
    return {
        "kept": kept,
        "ratio": most["ratio"],
        "least_ratio": LEAST_RATIO,
        "least_rows": least["rows"],
        "most_rows": most["rows"],
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "connections": plan.connections,
        "usual_rows": plan.usual_rows,
        "usual_devices": plan.usual_devices,
        "sizes": sizes,
    }


def _name(size: Size) -> str:
    return f"{size.rows} rows, {size.devices} devices"
