"""The command `scripts/bench-queue`: its arguments, its parts, its exit status.

What is measured: claim.py, workers.py, download.py. How it is told: report.py.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from bench_tools.command import conclude, exit_status, plan_from, show
from option_types import above_zero, at_least

from queue_bench import claim, download, report, workers


class Part(NamedTuple):
    """One of the measurements."""

    module: ModuleType  # with `Plan` and `run`
    tell: Callable[[dict[str, Any]], Iterator[str]]


PARTS = {
    "claim": Part(claim, report.tell_claim),
    "workers": Part(workers, report.tell_workers),
    "download": Part(download, report.tell_download),
}


def main() -> int:
    """Run the parts; the exit status."""
    options = _parse_arguments()
    return exit_status(lambda: _measure(options))


def _measure(options: argparse.Namespace) -> bool:
    found = {
        name: _run(part, options) for name, part in PARTS.items() if options.only in {None, name}
    }
    return conclude(found, as_json=options.json)


def _run(part: Part, options: argparse.Namespace) -> dict[str, Any]:
    plan = plan_from(options, part.module.Plan)
    with tempfile.TemporaryDirectory(prefix="queue-", dir=options.folder) as folder:
        found: dict[str, Any] = part.module.run(Path(folder), plan, show)
    if not options.json:
        print(*part.tell(found), sep="\n", flush=True)
    return found


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench-queue",
        description="Measure what claims, workers and downloads cost, and whether each chunk is"
        " done once while workers are killed.",
        epilog="Exit status 0: as promised. 1: not so. 2: it could not run.",
    )
    add = parser.add_argument
    add("--only", choices=PARTS, help="one part (default: all three)")
    _add_sizes_of_claims(add)
    _add_sizes_of_work(add)
    _add_sizes_of_downloads(add)
    text = "gunicorn's workers, but for claims, where one is enough (default: %(default)s)"
    add("--serving", type=at_least(1), default=workers.Plan.serving, metavar="N", help=text)
    text = "of lo meanwhile, if root; 0: as it is (default: %(default)s, a network's)"
    add("--mtu", type=at_least(0), default=workers.Plan.mtu, metavar="N", help=text)
    add("--folder", type=Path, help="where there is room (default: the temporary folder)")
    add("--json", action="store_true", help="print what was found as JSON")
    return parser.parse_args()


def _add_sizes_of_claims(add: Callable[..., Any]) -> None:
    text = "claim: of the table (default: %(default)s)"
    rows = at_least(20 * claim.WAITING)
    add("--rows", type=rows, default=claim.Plan.rows, metavar="N", help=text)
    text = "claim: how many are measured, each way (default: %(default)s)"
    add("--claims", type=at_least(1), default=claim.Plan.claims, metavar="N", help=text)


def _add_sizes_of_work(add: Callable[..., Any]) -> None:
    text = "workers: chunks that are there when they begin (default: %(default)s)"
    add("--chunks", type=at_least(1), default=workers.Plan.chunks, metavar="N", help=text)
    text = "workers: processes (default: %(default)s)"
    add("--workers", type=at_least(1), default=workers.Plan.workers, metavar="N", help=text)
    text = "workers: how many of them are killed (default: %(default)s)"
    add("--kills", type=at_least(0), default=workers.Plan.kills, metavar="N", help=text)
    text = "workers: uploads a second beside (default: %(default)g)"
    add("--rate", type=above_zero, default=workers.Plan.rate, metavar="N", help=text)


def _add_sizes_of_downloads(add: Callable[..., Any]) -> None:
    text = "download: different files (default: %(default)s)"
    add("--files", type=at_least(1), default=download.Plan.files, metavar="N", help=text)
    text = "download: rounds, of which the median counts (default: %(default)s)"
    add("--rounds", type=at_least(1), default=download.Plan.rounds, metavar="N", help=text)
    text = "download: the length of one (default: %(default)g)"
    add("--seconds", type=above_zero, default=download.Plan.seconds, metavar="N", help=text)
