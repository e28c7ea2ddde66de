"""What a benchmark of the queue asks of the machine: packets as a network has them, processor time,
and how to say what a set of durations was like.

What is measured is not known here.
"""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from local_site import Site, children_of

from ingest_api.settings import Settings

SERVING = Settings.from_environ({}).workers
"""gunicorn's workers, as many as the service has by itself on this machine."""

_MTU = Path("/sys/class/net/lo/mtu")
_TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def loopback_mtu(wanted: int) -> Iterator[int]:
    """What goes over lo goes in packets of that size meanwhile, if root asks for it (0: as it is);
    the size that it is. With lo's own 64 KiB, sending costs less than over any network. (After a
    SIGKILL it stays as it was set.)"""
    found = _mtu()
    try:
        if wanted:
            _try_to_set(wanted)
        yield _mtu()
    finally:
        if _mtu() != found:
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
    return cpu_seconds([site.master.pid, *site.workers()])


def postgres_cpu(site: Site) -> float:
    """The same of PostgreSQL, without the sessions that have ended."""
    postmaster = site.postgres.process.pid
    return cpu_seconds([postmaster, *children_of(postmaster)])


def cpu_seconds(pids: Iterable[int]) -> float:
    """In user and kernel mode, by /proc/<pid>/stat (proc_pid_stat(5)), without their children."""
    ticks = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(values[11]) + int(values[12])
    return ticks / _TICKS


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """Median, p99 and the longest of these durations."""
    ordered = sorted(seconds)
    values = {
        "median_ms": statistics.median(ordered),
        "p99_ms": ordered[math.ceil(0.99 * len(ordered)) - 1],
        "max_ms": ordered[-1],
    }
    return {name: round(1000 * value, 2) for name, value in values.items()}
