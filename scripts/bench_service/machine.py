"""The machine: what it is, packets as on a network, processor time, durations summed up.

What is measured is not known here.
"""

from __future__ import annotations

import math
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab.service import ServiceProcess, Site, children_of

from ingest_api.settings import Settings

SERVER_PROCESSES = Settings.from_environ({}).workers
NETWORK_MTU = 1500
_MTU = Path("/sys/class/net/lo/mtu")
_TICKS = os.sysconf("SC_CLK_TCK")


def show(line: str) -> None:
    """Report progress."""
    print(line, file=sys.stderr, flush=True)


def describe(folder: Path) -> dict[str, Any]:
    """Describe the machine, and the file system that a folder is on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "file_system": file_system(folder),
        "python": platform.python_version(),
        "mtu": _mtu(),
    }


def in_words(machine: Mapping[str, Any]) -> str:
    """Put what `describe` returned into one line."""
    return (
        "{date}: {cpu}, {cores} cores, {memory_gib} GiB, {kernel}, {file_system}, Python {python},"
        " MTU {mtu}"
    ).format_map(machine)


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def file_system(folder: Path) -> str:
    """Return the kind of file system a folder is on, such as ext4."""
    command = ["findmnt", "--noheadings", "--output=FSTYPE", "--target", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def loopback_mtu(wanted: int = NETWORK_MTU) -> Iterator[None]:
    """Send packets of a network's size over lo meanwhile, and put the MTU back.

    With the 64 KiB of lo itself, sending costs less than over any network. A SIGKILL leaves the MTU
    as it was set.
    """
    before = _mtu()
    try:
        if before != wanted and (failure := _set_mtu(wanted)):
            show(
                f"lo keeps its MTU of {before}, so sending costs less than on a network: {failure}"
            )
        yield
    finally:
        if _mtu() != before:
            _set_mtu(before)


def _mtu() -> int:
    return int(_MTU.read_text())


def _set_mtu(mtu: int) -> str:
    """Return why it could not be set, or an empty string."""
    # In a session of its own: Ctrl-C must not end the command that puts it back.
    command = ["ip", "link", "set", "lo", "mtu", str(mtu)]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, start_new_session=True
        )
    except OSError as error:
        return str(error)
    return done.stderr.strip()


def service_cpu(service: ServiceProcess) -> float:
    """Return the seconds of processor time that gunicorn's processes have used so far."""
    return cpu_seconds(service.workers()) + cpu_seconds([service.running.pid], ended=True)


def postgres_cpu(site: Site) -> float:
    """Return the same of PostgreSQL, including the sessions that have ended."""
    postmaster = site.postgres.process.pid
    return cpu_seconds(children_of(postmaster)) + cpu_seconds([postmaster], ended=True)


def cpu_seconds(pids: Iterable[int], *, ended: bool = False) -> float:
    """Return user and system time by /proc/<pid>/stat (proc_pid_stat(5)).

    With `ended`, children that have ended count as well.
    """
    ticks = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(value) for value in values[11 : 15 if ended else 13])
    return ticks / _TICKS


def machine_cpu() -> float:
    """Return the seconds that all cores together were busy since boot (proc_stat(5)).

    The kernel's work for the network is included.
    """
    user, nice, system, _idle, _iowait, irq, softirq = (
        int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:8]
    )
    return (user + nice + system + irq + softirq) / _TICKS


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """Sum up durations: median, p99 and the longest."""
    ordered = sorted(seconds)
    values = {
        "p50_ms": statistics.median(ordered),
        "p99_ms": ordered[math.ceil(0.99 * len(ordered)) - 1],
        "max_ms": ordered[-1],
    }
    return {name: round(1000 * value, 2) for name, value in values.items()}


def median(values: Iterable[float]) -> float:
    """Return the median, rounded for people."""
    return round(statistics.median(values), 3)
