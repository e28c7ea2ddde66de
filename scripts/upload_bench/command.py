"""The command `scripts/bench`: its parts, its exit status, and nothing left behind.

What is measured: side_by_side.py, paced.py, memory.py, growth.py. Its arguments: arguments.py.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import psycopg
from bench_tools.machine import describe, file_system, in_words
from local_postgres import PostgresError
from local_site import SiteError

from upload_bench.arguments import PARTS, parse

KEPT, BROKEN, NOT_RUN = range(3)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INSIST_SECONDS = 0.5


def main() -> int:
    """Run the parts; the exit status."""
    for signum in SIGNALS:
        signal.signal(signum, _interrupt)
    try:
        return _run_parts(*parse(sys.argv[1:]))
    except (SiteError, PostgresError, psycopg.Error, OSError) as error:
        print(f"the benchmark could not run: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)
        print("interrupted", file=sys.stderr)
    return NOT_RUN


def _interrupt(_signum: int, _frame: FrameType | None) -> NoReturn:
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)  # a second one must not cut off the tidying
    signal.signal(signal.SIGALRM, _insist)
    signal.setitimer(signal.ITIMER_REAL, INSIST_SECONDS, INSIST_SECONDS)
    raise KeyboardInterrupt


def _insist(_signum: int, _frame: FrameType | None) -> None:
    """Python drops what is raised in its hooks of a fork, and here much is forked. If there is no
    exception on its way, it was dropped."""
    if sys.exc_info()[0] is None:
        raise KeyboardInterrupt


def _run_parts(options: argparse.Namespace, plans: dict[str, Any]) -> int:
    machine = describe() | {"file_system": file_system(options.folder)}
    if not options.json:
        print(in_words(machine), flush=True)
    found = {}
    for name, plan in plans.items():
        found[name] = _run(name, plan, options.folder)
        if not options.json:
            print(*PARTS[name].tell(found[name]), sep="\n", flush=True)
        _plot(name, found[name] | {"machine": machine}, options.plot, alone=len(plans) == 1)
    kept = all(part["kept"] for part in found.values())
    if options.json:
        print(json.dumps({"kept": kept, "machine": machine, **found}))
    else:
        print("AS PROMISED" if kept else "NOT AS PROMISED")
    return KEPT if kept else BROKEN


def _run(name: str, plan: Any, where: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bench-", dir=where) as folder:
        return PARTS[name].run(Path(folder), plan, _show)


def _plot(name: str, found: dict[str, Any], file: Path | None, *, alone: bool) -> None:
    """Where there are several parts, each has a file of its own, beside that."""
    plot = PARTS[name].plot
    if plot and file:
        mine = file if alone else file.with_stem(f"{file.stem}-{name}")
        mine.write_text(plot(found))


def _show(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
