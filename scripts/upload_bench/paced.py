"""Uploads as they come in the field: from many devices in turn, each over a connection that it
keeps, a chunk a minute. How long they take from when they were due, and what the machine does for
it.

Nothing is warmed up: the first minute is told apart, but it counts. In it each device connects and
gets its folders. In the field that is so when the whole fleet is new; at the first upload of an
hour only the last of the folders is.

What sends them: paced_load.py.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bench_tools.machine import (
    MIB,
    SERVING,
    cpu_seconds,
    loopback_mtu,
    milliseconds,
    milliseconds_in_words,
    postgres_cpu,
    pss_bytes,
    service_cpu,
)
from lab.service import Site, SiteError
from option_types import above_zero, at_least
from soak_load import SPEECH

from upload_bench.paced_process import PacedProcess, Sent, job, sending
from upload_bench.recorders import site_recorders

P99_MS = 50.0
CPU_PERCENT = 60.0
MINUTE_SECONDS = 60.0
PARTS = ("service", "postgresql", "load")


@dataclass(frozen=True)
class Plan:
    """How many, how often, for how long."""

    rate: float = 167.0  # uploads a second, of all devices together
    devices: int = 10_000
    minutes: float = 5.0
    serving: int = SERVING  # gunicorn's workers
    mtu: int = 1500


class Usage(NamedTuple):
    """Seconds of processor time up to a moment."""

    when: float
    machine: float  # of all cores, by whomever
    service: float
    postgresql: float
    load: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of this part."""
    add = parser.add_argument_group("paced").add_argument
    text = "uploads a second, of all devices together (default: %(default)g)"
    add("--rate", type=above_zero, default=Plan.rate, metavar="N", help=text)
    text = "that upload in turn, each over its own connection (default: %(default)s)"
    add("--devices", type=at_least(1), default=Plan.devices, metavar="N", help=text)
    text = "for so long (default: %(default)g)"
    add("--minutes", type=above_zero, default=Plan.minutes, metavar="N", help=text)


def run(folder: Path, plan: Plan, show: Callable[[str], None]) -> dict[str, Any]:
    """Register, upload, count; what was found."""
    with Site(folder, workers=plan.serving) as site, loopback_mtu(plan.mtu) as mtu:
        site.wait_for_workers()
        show(f"paced: {plan.devices} devices are registered")
        recorders = site_recorders(site, plan.devices)
        uploads = max(1, round(plan.rate * plan.minutes * MINUTE_SECONDS))
        work = job(site.address, recorders, SPEECH, uploads=uploads, rate=plan.rate)
        before = _pss(site)
        with sending(work, folder) as process:
            process.begins()
            begin = _usage(site, process)
            sent = process.finish(lambda line: show(f"paced: {line}"))
            end = _usage(site, process)
            after = _pss(site)
        if not sent.accepted:
            raise SiteError(f"no upload was accepted: {sent.errors}")
        facts = _facts(plan, sent, rows=_count_rows(site))
    memory = {"pss_mib_before": before, "pss_mib_with_connections": after}
    found = facts | {"mtu": mtu, "cpu_percent": _percent(begin, end), **memory}
    return {"kept": is_kept(found), **found}


def is_kept(found: dict[str, Any]) -> bool:
    """What is promised of it."""
    return bool(
        not found["errors"]
        and found["rows"] == found["acknowledged"] == found["uploads"]
        and found["latency"]["p99_ms"] < P99_MS
        and found["cpu_percent"]["machine"] < CPU_PERCENT
    )


def _facts(plan: Plan, sent: Sent, *, rows: int) -> dict[str, Any]:
    return {
        "devices": plan.devices,
        "rate": plan.rate,
        "rate_reached": round(len(sent.accepted) / sent.seconds, 1),
        "seconds": round(sent.seconds, 1),
        "uploads": len(sent.took),
        "acknowledged": len(sent.accepted),
        "rows": rows,
        "errors": sent.errors,
        "connections_made": sent.connected,
        "connections_held": sent.open,
        "latency": milliseconds(sent.accepted),
        "latency_by_minute": _by_minute(plan, sent.took),
        "begun_late": milliseconds(sent.late),
    }


def _by_minute(plan: Plan, took: list[float | None]) -> list[dict[str, float]]:
    """Of those in which any was accepted."""
    size = max(1, round(plan.rate * MINUTE_SECONDS))
    minutes = [took[first : first + size] for first in range(0, len(took), size)]
    accepted = [[one for one in minute if one is not None] for minute in minutes]
    return [milliseconds(minute) for minute in accepted if minute]


def _count_rows(site: Site) -> int:
    with site.connect() as connection:
        row = connection.execute("SELECT count(*) FROM audio_chunks").fetchone()
    return int(row[0]) if row else 0


def _pss(site: Site) -> float:
    """Of gunicorn with its workers, in MiB."""
    return round(pss_bytes([site.master.pid, *site.workers()]) / MIB, 1)


def _usage(site: Site, process: PacedProcess) -> Usage:
    return Usage(
        time.monotonic(),
        machine_cpu(),
        service_cpu(site),
        postgres_cpu(site),
        cpu_seconds([process.pid]),
    )


def machine_cpu() -> float:
    """Seconds that all cores together were busy since the machine was started: user, nice, system,
    irq and softirq of /proc/stat (proc_stat(5)). What the kernel does for the network is in it."""
    user, nice, system, _idle, _iowait, irq, softirq = (
        int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:8]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _percent(begin: Usage, end: Usage) -> dict[str, float]:
    """Of all cores together."""
    available = (end.when - begin.when) * (os.cpu_count() or 1)
    return {
        name: round(100 * (getattr(end, name) - getattr(begin, name)) / available, 1)
        for name in ("machine", *PARTS)
    }


def tell(found: dict[str, Any]) -> Iterator[str]:
    """For people."""
    yield (
        "paced: {rate:g} uploads a second from {devices} devices, each over its own connection, for"
        " {seconds} s (MTU {mtu}); timed from when each was due"
    ).format_map(found)
    yield (
        "  latency     "
        + milliseconds_in_words(found["latency"])
        + f": p99 must be below {P99_MS:g} ms"
    )
    for number, minute in enumerate(found["latency_by_minute"], 1):
        remark = ", with connecting and the first folders" if number == 1 else ""
        yield f"    minute {number:<3}" + milliseconds_in_words(minute) + remark
    yield (
        "  begun late  "
        + milliseconds_in_words(found["begun_late"])
        + ": by the load, is in the above"
    )
    yield "  rate        {rate_reached} a second".format_map(found)
    yield (
        "  cpu         {machine} % of the machine: must be below {limit:g} %; service {service} %,"
        " PostgreSQL {postgresql} %, load {load} %"
    ).format(limit=CPU_PERCENT, **found["cpu_percent"])
    yield "  connections {connections_held} held, {connections_made} made".format_map(found)
    yield (
        "  memory      {pss_mib_with_connections} MiB (PSS) of the service with them,"
        " {pss_mib_before} before"
    ).format_map(found)
    yield "  uploads     {uploads}, acknowledged {acknowledged}, rows {rows}".format_map(found)
    yield f"  errors      {_errors(found['errors'])}: must be 0"


def _errors(counts: dict[str, int]) -> str:
    kinds = ", ".join(f"{name} {number}" for name, number in counts.items())
    return f"{sum(counts.values())}" + (f" ({kinds})" if kinds else "")
