"""Uploads as in the field: many devices in turn, each over a kept-alive connection of its own.

An upload is timed from when it was due, so a late one counts even if the load itself was late. In
the first minute every device gets its folders, as when the whole fleet is new.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.recorder import Recorder
from lab.service import Site, SiteError

from bench_service.devices import count_chunks, register
from bench_service.load import run_wrk, uploads, write
from bench_service.machine import (
    SERVER_PROCESSES,
    machine_cpu,
    postgres_cpu,
    service_cpu,
    show,
)

MOST_P99_MS = 50.0
MOST_CPU_PERCENT = 60.0
TAIL_SECONDS = 3  # for the last answers
OTHER_DESCRIPTORS = 200


def run(folder: Path, *, devices: int, minutes: float) -> dict[str, Any]:
    """Send a chunk a minute from each device."""
    rate = devices / 60
    _raise_descriptor_limit(devices)
    with Site(folder, workers=SERVER_PROCESSES) as site:
        fleet = register(site.database_url, devices)
        show(f"paced: {rate:.1f} uploads a second for {minutes:g} minutes")
        before, started = _cpu(site), time.monotonic()
        found = send(site.address, fleet, folder / "uploads", rate=rate, seconds=60 * minutes)
        cores = (time.monotonic() - started) * (os.cpu_count() or 1)
        used = {
            who: round(100 * (value - before[who]) / cores, 1) for who, value in _cpu(site).items()
        }
        found["rows"] = count_chunks(site.database_url, fleet)
    return found | {"kept": is_kept(found, used), "devices": devices, "rate": rate, "cpu": used}


def send(
    address: tuple[str, int], devices: list[Recorder], file: Path, *, rate: float, seconds: float
) -> dict[str, Any]:
    """Send uploads at this pace; return what came of them."""
    total = max(1, round(rate * seconds))
    lead = 2 + len(devices) / 1000  # to connect, see paced.lua
    begin = 1000 * (time.monotonic() + lead)
    arguments = write(uploads(devices), file), f"{begin:.1f}", rate, total, len(devices)
    whole = lead + seconds + TAIL_SECONDS
    found = run_wrk(address, "paced.lua", *arguments, connections=len(devices), seconds=whole)
    return {"uploads": total} | found


def is_kept(found: dict[str, Any], cpu: dict[str, float]) -> bool:
    """Return whether every upload is stored, in time, and half of the machine is left."""
    return bool(
        found["uploads"] == found["accepted"] == found["rows"]
        and not found["broken"]
        and found["p99_ms"] < MOST_P99_MS
        and cpu["machine"] < MOST_CPU_PERCENT
    )


def _raise_descriptor_limit(connections: int) -> None:
    """Let the service and wrk, which inherit it, hold so many connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < connections + OTHER_DESCRIPTORS:
        raise SiteError(
            f"{hard} open files are allowed: raise `ulimit -Hn`, or use fewer --devices"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _cpu(site: Site) -> dict[str, float]:
    load = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "machine": machine_cpu(),
        "service": service_cpu(site.service),
        "postgresql": postgres_cpu(site),
        "load": load.ru_utime + load.ru_stime,
    }


def tell(found: dict[str, Any]) -> Iterator[str]:
    """Describe the result for people."""
    yield "paced: {rate:.1f} uploads a second from {devices} devices".format_map(found)
    yield (
        "  from due to answered  p50 {p50_ms}, p99 {p99_ms}, max {max_ms} ms"
        " (begun late by the load: p99 {late_p99_ms} ms); p99 must be below {limit:g} ms"
    ).format(limit=MOST_P99_MS, **found)
    yield (
        "  processor time        {machine} % of the machine: must be below {limit:g} %; service"
        " {service} %, PostgreSQL {postgresql} %, load {load} %"
    ).format(limit=MOST_CPU_PERCENT, **found["cpu"])
    yield (
        "  uploads               {uploads}, accepted {accepted}, rows {rows}, refused {refused},"
        " broken connections {broken}"
    ).format_map(found)
