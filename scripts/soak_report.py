"""How a soak is told: the progress line, the table, the JSON document.

Reads an outcome and changes nothing.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from soak_load import Tally
from soak_run import Outcome

PROGRESS_SECONDS = 10


class ProgressLine:
    """One line on standard error: rewritten on a terminal, else a new one every 10 s."""

    def __init__(self) -> None:
        self._rewrites = sys.stderr.isatty()
        self._next = 0.0

    def __call__(self, seconds: float, tally: Tally, faults: Counter[str]) -> None:
        self.show(seconds, lambda: _progress(seconds, tally, faults))

    def show(self, seconds: float, line: Callable[[], str]) -> None:
        """The line of this second, if it is time for one."""
        if self._rewrites:
            print(f"\r\x1b[K{line()}", end="", file=sys.stderr, flush=True)
        elif seconds >= self._next:
            print(line(), file=sys.stderr, flush=True)
            self._next += PROGRESS_SECONDS

    def end(self) -> None:
        """Leave the line as it is."""
        if self._rewrites:
            print(file=sys.stderr)


def _progress(seconds: float, tally: Tally, faults: Counter[str]) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return (
        f"{minutes:02}:{rest:02}  sent {tally.sent}  acknowledged {len(tally.acknowledged)}"
        f"  again {tally.resent} (known {tally.duplicates})  failed {tally.failed}"
        f"  faults: {_counts(+faults)}"
    )


def facts(outcome: Outcome, folder: Path, *, kept: bool = True) -> dict[str, Any]:
    """The outcome as a JSON document. It names the folder only if it is to be kept."""
    plan, tally, verdict = outcome.plan, outcome.tally, outcome.verdict
    return {
        "clean": outcome.clean,
        "seconds": round(outcome.seconds, 1),
        "devices": plan.devices,
        "workers": plan.workers,
        "chunk_bytes": plan.habits.chunk_bytes,
        "seed": plan.seed,
        "faults": dict(outcome.faults),
        "sent": tally.sent,
        "resent": tally.resent,
        "duplicates": tally.duplicates,
        "hung_up": tally.hung_up,
        "failed": tally.failed,
        "failures": dict(tally.failures),
        "failures_allowed": plan.failures_allowed,
        "longest_silence_seconds": round(tally.longest_silence, 1),
        "stuck": outcome.stuck,
        **vars(verdict),
        "folder": str(folder) if kept else None,
        "folder_bytes": _disk_usage(folder),
    }


def table(facts: dict[str, Any]) -> str:
    """The facts for people."""
    must_be_zero = "" if facts["failures_allowed"] else "must be 0  "
    lines = (
        ("faults", sum(facts["faults"].values()), _counts(facts["faults"])),
        ("uploads sent", facts["sent"], f"{facts['hung_up']} broken on purpose by their client"),
        ("sent again", facts["resent"], f"{facts['duplicates']} of them were known already"),
        ("failed", facts["failed"], must_be_zero + _counts(facts["failures"])),
        ("longest silence", facts["longest_silence_seconds"], "seconds without any 200"),
        ("acknowledged", facts["acknowledged"], "chunks that got their 200"),
        ("rows", facts["rows"], ""),
        ("lost", facts["lost"], "acknowledged, but not there or not the same: must be 0"),
        ("double", facts["double"], "rows for a chunk that has one: must be 0"),
        ("rows without file", facts["rows_without_file"], "or with other bytes: must be 0"),
        ("rows from nowhere", facts["rows_from_nowhere"], "that no recorder sent: must be 0"),
        ("stuck", facts["stuck"], "chunks that never got their 200: must be 0"),
        ("files without row", facts["files_without_row"], "harmless"),
        ("temporary files", facts["temporary_files"], "harmless"),
        (
            "megabytes",
            facts["folder_bytes"] // 1_000_000,
            f"in {facts['folder'] or 'the folder, now deleted'}",
        ),
    )
    title = "{seconds} s, {devices} recorders, {workers} workers, seed {seed}".format_map(facts)
    return "\n".join(
        (
            title,
            *(f"  {name:18}{value:>10}  {remark}".rstrip() for name, value, remark in lines),
            *facts["examples"],
            "CLEAN" if facts["clean"] else "NOT CLEAN",
        )
    )


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counts.items())


def _disk_usage(folder: Path) -> int:
    """In bytes, as du counts."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))
