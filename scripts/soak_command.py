"""The command `scripts/soak`: its arguments, its progress line, and how it tells the verdict.

What a soak does is not known here: see soak_run.py.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg
from lab.postgres import PostgresError
from lab.service import SiteError
from option_types import above_zero, at_least, not_below_zero
from soak_faults import FAULTS, GRACEFUL
from soak_load import TAIL_BYTES, Habits
from soak_report import ProgressLine, facts, table
from soak_run import Outcome, Plan, run

SPARE_BYTES = 1024**3
UNPACED_RATE = 200.0  # what --rate 0 may reach, to estimate the disk it takes
CLEAN, NOT_CLEAN, NOT_RUN = range(3)


def main() -> int:
    """Run a soak; the exit status."""
    arguments = _parser().parse_args()
    try:
        folder, outcome = _soak(_plan(arguments), arguments.keep)
    except (SiteError, PostgresError, psycopg.Error, OSError) as error:
        print(f"the soak could not run: {error}", file=sys.stderr)
        return NOT_RUN
    except KeyboardInterrupt:
        print("interrupted without a verdict", file=sys.stderr)
        return NOT_RUN
    kept = bool(arguments.keep) or not outcome.clean
    found = facts(outcome, folder, kept=kept)
    print(json.dumps(found) if arguments.json else table(found))
    if not kept:
        shutil.rmtree(folder)
    if not outcome.tally.acknowledged:
        print("nothing was acknowledged, so this says nothing", file=sys.stderr)
        return NOT_RUN
    return CLEAN if outcome.clean else NOT_CLEAN


def _soak(plan: Plan, keep: Path | None) -> tuple[Path, Outcome]:
    folder, progress = _folder(keep, plan), ProgressLine()
    try:
        outcome = run(plan, folder, stop=_stop_on_signals(), show=progress)
    except BaseException:
        progress.end()
        print(f"what there is stays in {folder}", file=sys.stderr)
        raise
    progress.end()
    return folder, outcome


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/soak",
        description="Upload from many recorders while the service and its PostgreSQL are killed,\n"
        "restarted and frozen at random; then see whether anything is lost or double.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_options(parser.add_argument)
    return parser


def _add_options(add: Callable[..., Any]) -> None:
    add("--minutes", type=above_zero, default=1.0, metavar="N", help="how long (default: 1)")
    text = "those to choose from, with commas, or none (default: all)"
    add("--faults", type=_faults, default=Plan.faults, metavar="NAMES", help=text)
    text = "seconds from one fault to the next (default: %(default)g)"
    add("--every", type=above_zero, default=Plan.every, metavar="SECONDS", help=text)
    text = "recorders, each of which sends one chunk at a time (default: %(default)s)"
    add("--devices", type=at_least(1), default=Plan.devices, metavar="N", help=text)
    text = "chunks a second, all together; 0: as fast as they are answered (default: %(default)g)"
    add("--rate", type=not_below_zero, default=Habits.rate, metavar="N", help=text)
    text = "gunicorn's worker processes (default: %(default)s)"
    add("--workers", type=at_least(1), default=Plan.workers, metavar="N", help=text)
    text = "the size of a chunk (default: %(default)s, a minute of speech)"
    size = at_least(TAIL_BYTES + 1)
    add("--chunk-bytes", type=size, default=Habits.chunk_bytes, metavar="N", help=text)
    add("--seed", type=int, metavar="N", help="of the order of the faults (default: a random one)")
    text = "work in this new or empty folder and keep it (default: one that is deleted, if clean)"
    add("--keep", type=Path, metavar="FOLDER", help=text)
    add("--json", action="store_true", help="print the verdict as JSON")


def _epilog() -> str:
    faults = (f"  {name:16} {_sentence(fault)}" for name, fault in FAULTS.items())
    return "\n".join(
        (
            "faults:",
            *faults,
            "",
            f"With no faults but {', '.join(GRACEFUL)} every failed upload counts against it.",
            "Exit status 0: clean. 1: not clean, and the folder is kept. 2: it could not run.",
            "Ctrl-C: the verdict on what was done so far. A kill is not a power cut: what the",
            "system has buffered survives it, so this proves nothing about syncing.",
        )
    )


def _sentence(function: Callable[..., None]) -> str:
    return " ".join((function.__doc__ or "").split())


def _faults(value: str) -> tuple[str, ...]:
    names = () if value == "none" else tuple(dict.fromkeys(value.split(",")))
    if unknown := set(names) - FAULTS.keys():
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; see --help")
    return names


def _plan(arguments: argparse.Namespace) -> Plan:
    return Plan(
        seconds=60 * arguments.minutes,
        faults=arguments.faults,
        every=arguments.every,
        devices=arguments.devices,
        habits=Habits(rate=arguments.rate, chunk_bytes=arguments.chunk_bytes),
        workers=arguments.workers,
        seed=random.randrange(2**32) if arguments.seed is None else arguments.seed,
    )


def _folder(keep: Path | None, plan: Plan) -> Path:
    """Where to work: there is room, and nothing in it."""
    if keep is None:
        _require_space(Path(tempfile.gettempdir()), plan)
        return Path(tempfile.mkdtemp(prefix="soak-"))
    keep.mkdir(parents=True, exist_ok=True)
    if any(keep.iterdir()):
        raise SiteError(f"{keep} is not empty")
    _require_space(keep, plan)
    return keep.resolve()


def _require_space(folder: Path, plan: Plan) -> None:
    needed = int(plan.seconds * (plan.habits.rate or UNPACED_RATE) * plan.habits.chunk_bytes)
    needed += SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SiteError(
            f"{folder} has {free} bytes free, and this may take {needed}: choose fewer --minutes,"
            " a lower --rate, smaller --chunk-bytes, or another folder (--keep, TMPDIR)"
        )


def _stop_on_signals() -> threading.Event:
    """Set by the first Ctrl-C or SIGTERM; the second one interrupts."""
    stop = threading.Event()

    def handle(_signum: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, handle)
    return stop


if __name__ == "__main__":
    sys.exit(main())
