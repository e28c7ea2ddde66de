"""What `flask ingest fsck` and `prune` cost on a large table, and prune costs uploads beside it.

Whether they do the right thing is for the tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lab.service import Site, SiteError

from bench_service import paced
from bench_service.devices import register
from bench_service.fill import fill
from bench_service.load import start
from bench_service.machine import SERVER_PROCESSES, median, show

DEVICES = 100
UPLOADERS = 20
MOST_RATIO = 2.0  # of the p99 of uploads beside prune to that alone
_PRUNE = ("prune", "--older-than", "90d")
_OLD = timedelta(days=100)
_FILES = "SELECT file_path, file_size_bytes FROM audio_chunks"


def run(folder: Path, *, rows: int, rounds: int, seconds: float, rate: float) -> dict[str, Any]:
    """Fill, check, prune beside uploads, prune the rest, check again."""
    with Site(folder, workers=SERVER_PROCESSES) as site:
        show(f"maintenance: {rows} rows and sparse files are made")
        with site.connect() as connection:
            devices = register(site.database_url, DEVICES)
            fill(connection, devices, rows, end=datetime.now(UTC) - _OLD, queued=0)
            for path, size in connection.execute(_FILES):
                _make_sparse_file(site.storage / path, size)
        commands = {"fsck": _run(site, "fsck", "--repair")}
        beside = _measure_beside(site, rounds, seconds, rate)
        commands["prune --rate 0"] = _run(site, *_PRUNE, "--rate", "0")
        commands["fsck afterwards"] = _run(site, "fsck")
    kept = beside["ratio"] <= MOST_RATIO and not any(
        command["status"] for command in commands.values()
    )
    return {"kept": kept, "rows": rows, "rate": rate, "commands": commands, "beside": beside}


def _make_sparse_file(path: Path, size: int) -> None:
    if not path.parent.exists():
        path.parent.mkdir(parents=True)
    path.touch(0o640)
    os.truncate(path, size)


def _start(site: Site, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "flask", "ingest", *arguments]
    return start(
        command,
        environ=site.environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=site.folder,
    )


def _run(site: Site, *arguments: str) -> dict[str, Any]:
    show(f"maintenance: {' '.join(arguments)}")
    started = time.monotonic()
    process = _start(site, *arguments)
    assert process.stdout
    last = process.stdout.read().decode().splitlines()[-1:]
    _, status, usage = os.wait4(process.pid, 0)
    return {
        "seconds": round(time.monotonic() - started, 1),
        "peak_mib": round(usage.ru_maxrss / 1024),
        "status": os.waitstatus_to_exitcode(status),
        "said": " ".join(last),
    }


def _measure_beside(site: Site, rounds: int, seconds: float, rate: float) -> dict[str, Any]:
    """Alternate, because machines are noisy: alone, beside prune, alone, beside prune, ..."""
    alone, beside = [], []
    for number in range(1, rounds + 1):
        show(f"maintenance: uploads alone and beside prune, round {number} of {rounds}")
        alone.append(_p99_ms(site, rate, seconds))
        process = _start(site, *_PRUNE)
        time.sleep(2)  # until it works
        beside.append(_p99_ms(site, rate, seconds))
        if process.poll() is not None:
            raise SiteError("prune ended too early: take more --rows, or fewer --seconds")
        process.terminate()
        process.communicate()
    ratio = round(median(beside) / median(alone), 2)
    return {"alone_p99_ms": alone, "beside_p99_ms": beside, "ratio": ratio}


def _p99_ms(site: Site, rate: float, seconds: float) -> float:
    devices = register(site.database_url, UPLOADERS)  # new ones: no upload is a replay
    found = paced.send(site.address, devices, site.folder / "uploads", rate=rate, seconds=seconds)
    if found["accepted"] != found["uploads"]:
        raise SiteError(f"uploads failed: {found}")
    return float(found["p99_ms"])


def tell(found: dict[str, Any]) -> Iterator[str]:
    """Describe the result for people."""
    yield "maintenance: {rows} rows and files".format_map(found)
    for name, command in found["commands"].items():
        line = "{seconds} s, {peak_mib} MiB at most, exit status {status}: {said}"
        yield f"  {name:16}{line.format_map(command)}"
    yield "  p99 of {rate:g} uploads a second in ms".format_map(found)
    for name in ("alone", "beside"):
        values = " ".join(f"{value:.0f}" for value in found["beside"][f"{name}_p99_ms"])
        yield f"    {name:14}{values}"
    yield f"    ratio         {found['beside']['ratio']}: at most {MOST_RATIO:g}"
