"""What a benchmark asks of the machine: which one it is, packets as a network has them, processor
time and memory of processes, and how to say what a set of durations was like.

What is measured is not known here.
"""

from __future__ import annotations

import math
import os
import platform
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab.service import Site, children_of

from ingest_api.settings import Settings

MIB = 2**20
SETTLING_SECONDS = 0.3  # for what was under way when a round ended
SERVING = Settings.from_environ({}).workers
"""gunicorn's workers, as many as the service has by itself on this machine."""

_MTU = Path("/sys/class/net/lo/mtu")
_TICKS = os.sysconf("SC_CLK_TCK")
_KIB = 1024


def describe() -> dict[str, Any]:
    """The machine, in words for the head of a report."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def in_words(machine: Mapping[str, Any]) -> str:
    """What `describe` says, and on which file system it was, in a line."""
    line = (
        "{date}: {cpu}, {cores} cores, {memory_gib} GiB, {kernel}, {file_system}, Python {python}"
    )
    return line.format_map(machine)


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def file_system(folder: Path) -> str:
    """The kind of file system a folder is on, such as ext4 (proc_pid_mountinfo(5))."""
    kinds = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        where, _, what = line.partition(" - ")
        kinds[where.split()[4]] = what.split()[0]  # the last one mounted on a place is seen there
    folder = folder.resolve()
    return next(kinds[str(place)] for place in (folder, *folder.parents) if str(place) in kinds)


@contextmanager
def loopback_mtu(wanted: int) -> Iterator[int]:
    """What goes over lo goes in packets of that size meanwhile, if root asks for it (0: as it is);
    the size that it is. With lo's own 64 KiB, sending costs less than over any network. (After a
    SIGKILL it stays as it was set.)"""
    found = _mtu()
    # What another benchmark has set meanwhile is for that one to put back.
    changes = wanted not in {0, found}
    try:
        if changes:
            _try_to_set(wanted)
        yield _mtu()
    finally:
        if changes and _mtu() == wanted:
            _set_mtu(found)


def _mtu() -> int:
    return int(_MTU.read_text())


def _try_to_set(mtu: int) -> None:
    try:
        _set_mtu(mtu)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"lo keeps its MTU of {_mtu()}, only root may change it: {error}", file=sys.stderr)


def _set_mtu(mtu: int) -> None:
    # In a session of its own: Ctrl-C must not end the command that undoes this.
    command = ["ip", "link", "set", "lo", "mtu", str(mtu)]
    subprocess.run(command, check=True, capture_output=True, start_new_session=True)


def service_cpu(site: Site) -> float:
    """Seconds of processor time that gunicorn and its workers have used so far."""
    return cpu_seconds(site.workers()) + cpu_seconds([site.master.pid], ended=True)


def postgres_cpu(site: Site) -> float:
    """The same of PostgreSQL, with the sessions that have ended."""
    postmaster = site.postgres.process.pid
    return cpu_seconds(children_of(postmaster)) + cpu_seconds([postmaster], ended=True)


def cpu_seconds(pids: Iterable[int], *, ended: bool = False) -> float:
    """In user and kernel mode, by /proc/<pid>/stat (proc_pid_stat(5)), without their children that
    run; with those that have ended if `ended`."""
    ticks = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(value) for value in values[11 : 15 if ended else 13])
    return ticks / _TICKS


def reset_peak(pids: Iterable[int]) -> None:
    """Peaks are counted from now on: 5 in /proc/<pid>/clear_refs (proc_pid_clear_refs(5))."""
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_rss_bytes(pids: Iterable[int]) -> int:
    """The most that each of them had resident since then, added up. What they share counts for
    each of them: see `pss_bytes`."""
    return sum(_bytes(pid, "status", "VmHWM:") for pid in pids)


def pss_bytes(pids: Iterable[int]) -> int:
    """What they have resident now, each shared page counted once, by those who share it."""
    return sum(_bytes(pid, "smaps_rollup", "Pss:") for pid in pids)


def _bytes(pid: int, file: str, name: str) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * _KIB
    return 0


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """Median, p99 and the longest of these durations."""
    ordered = sorted(seconds)
    values = {
        "median_ms": statistics.median(ordered),
        "p99_ms": ordered[math.ceil(0.99 * len(ordered)) - 1],
        "max_ms": ordered[-1],
    }
    return {name: round(1000 * value, 2) for name, value in values.items()}


def milliseconds_in_words(values: Mapping[str, float]) -> str:
    """What `milliseconds` found, in a line."""
    return "median {median_ms}, p99 {p99_ms}, max {max_ms} ms".format_map(values)


def load_cpu() -> float:
    """Seconds of processor time of the programs that this one has started and waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime
