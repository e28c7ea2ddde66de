"""What this machine could do at best under the same promise: bare processes that write files and
rows, without HTTP. What one of them does: bare.py.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench_tools.machine import cpu_seconds
from bench_tools.programs import python, start
from lab.recorder import Recorder
from lab.service import Site, SiteError
from soak_load import SPEECH

from upload_bench.contender import empty_files
from upload_bench.load import Round, percentiles
from upload_bench.recorders import first_start
from upload_bench.rows import Rows


class Limit:
    """Its processes, which wait between the rounds."""

    def __init__(self, rows: Rows, folder: Path, running: list[subprocess.Popen[bytes]]) -> None:
        self._rows = rows
        self._folder = folder
        self._running = running
        self._next = 0

    def send(self, seconds: float) -> Round:
        """SiteError when a process fails."""
        order = {"number": self._next, "seconds": seconds}
        for process in self._running:
            _write(process, order)
        parts = [json.loads(_read(process)) for process in self._running]
        took = [value for part in parts for value in part["took"]]
        self._next += len(parts) * max(part["sent"] for part in parts)
        return Round(
            uploads=len(took),
            errors=0,
            seconds=max(part["seconds"] for part in parts),
            **percentiles(took),
        )

    def pids(self) -> list[int]:
        return [process.pid for process in self._running]

    def cpu(self) -> float:
        return cpu_seconds(self.pids())

    def clear(self, came: Round) -> Iterator[str]:
        for what, stored in (("files", empty_files(self._folder)), ("rows", self._rows.new())):
            if stored != came.uploads:
                yield f"{what}: {stored} for {came.uploads} uploads"


@contextmanager
def limit(
    site: Site, recorders: Sequence[Recorder], folder: Path, processes: int
) -> Iterator[Limit]:
    """So many processes run meanwhile, with their files in `folder`. SiteError."""
    (folder / ".incoming").mkdir(parents=True)
    task = {
        "folder": str(folder),
        "database_url": site.database_url,
        "sound": str(SPEECH),
        "first": first_start(),
        "devices": [
            [str(who.device_id), str(who.point_id), str(who.register_id)] for who in recorders
        ],
        "step": processes,
    }
    with ExitStack() as stack:
        running = [_start(task | {"place": place}, stack) for place in range(processes)]
        for process in running:
            _read(process)
        yield Limit(Rows(site, recorders), folder, running)


def _start(task: dict[str, Any], stack: ExitStack) -> subprocess.Popen[bytes]:
    process = start(python("upload_bench.bare"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    stack.callback(_end, process)
    _write(process, task)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _write(process: subprocess.Popen[bytes], document: dict[str, Any]) -> None:
    assert process.stdin
    process.stdin.write(json.dumps(document).encode() + b"\n")
    process.stdin.flush()


def _read(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise SiteError("a bare process ended by itself")
    return line
