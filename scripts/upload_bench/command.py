"""The command `scripts/bench`: its parts, its exit status, and nothing left behind.

What is measured: side_by_side.py, paced.py, memory.py, growth.py. Its arguments: arguments.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench_tools.command import conclude, exit_status, show
from bench_tools.machine import describe, file_system, in_words

from upload_bench.arguments import PARTS, parse


def main() -> int:
    """Run the parts; the exit status."""
    options, plans = parse(sys.argv[1:])
    return exit_status(lambda: _measure(options, plans))


def _measure(options: argparse.Namespace, plans: dict[str, Any]) -> bool:
    machine = describe() | {"file_system": file_system(options.folder)}
    if not options.json:
        print(in_words(machine), flush=True)
    found = {}
    for name, plan in plans.items():
        found[name] = _run(name, plan, options.folder)
        if not options.json:
            print(*PARTS[name].tell(found[name]), sep="\n", flush=True)
        _plot(name, found[name] | {"machine": machine}, options.plot, alone=len(plans) == 1)
    return conclude(found, as_json=options.json, machine=machine)


def _run(name: str, plan: Any, where: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bench-", dir=where) as folder:
        return PARTS[name].run(Path(folder), plan, show)


def _plot(name: str, found: dict[str, Any], file: Path | None, *, alone: bool) -> None:
    """Where there are several parts, each has a file of its own, beside that."""
    plot = PARTS[name].plot
    if plot and file:
        mine = file if alone else file.with_stem(f"{file.stem}-{name}")
        mine.write_text(plot(found))
