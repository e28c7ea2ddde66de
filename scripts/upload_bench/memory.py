"""What the service holds in memory while as many clients as there are connections send it the
largest files that it takes, all at once.

Counted is what each process had resident at its peak, added up, though some of it is shared by all
of them, and though their peaks need not be at the same time: so no moment was worse. Beside it PSS,
in which what is shared counts once: that is nearer to what the machine has to find.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_tools.machine import MIB, SERVING, loopback_mtu, peak_rss_bytes, pss_bytes, reset_peak
from lab.service import Site, children_of
from option_types import above_zero, at_least
from soak_load import SPEECH

from ingest_api.settings import Settings
from upload_bench.paced_process import Sent, job, sending
from upload_bench.recorders import site_recorders

LIMIT_MIB = 250.0
SAMPLE_SECONDS = 0.2
LARGEST = Settings.from_environ({}).max_upload_size_bytes


@dataclass(frozen=True)
class Plan:
    """How many, how large."""

    connections: int = 64
    megabytes: float = LARGEST / MIB  # of 2**20 bytes
    uploads: int = 5  # of each connection
    serving: int = SERVING  # gunicorn's workers
    mtu: int = 1500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of this part."""
    add = parser.add_argument_group("memory").add_argument
    text = "that send at once (default: %(default)s)"
    add("--connections", type=at_least(1), default=Plan.connections, metavar="N", help=text)
    text = "of each file, of 2**20 bytes (default: %(default)g, the most that is taken)"
    add("--megabytes", type=above_zero, default=Plan.megabytes, metavar="N", help=text)
    text = "of each connection (default: %(default)s)"
    add("--uploads", type=at_least(1), default=Plan.uploads, metavar="N", help=text)


def run(folder: Path, plan: Plan, show: Callable[[str], None]) -> dict[str, Any]:
    """Upload, watch; what was found."""
    sound = folder / "sound"
    _write_sound(sound, round(plan.megabytes * MIB))
    with Site(folder, workers=plan.serving) as site, loopback_mtu(plan.mtu) as mtu:
        site.wait_for_workers()
        recorders = site_recorders(site, plan.connections)
        uploads = plan.connections * plan.uploads
        work = job(site.address, recorders, sound, uploads=uploads)
        show(f"memory: {plan.connections} connections send {plan.megabytes:g} MiB each")
        service = Watched(lambda: [site.master.pid, *site.workers()])
        postgres = Watched(lambda: _with_children(site.postgres.process.pid))
        with watching(service, postgres), sending(work, folder) as process:
            process.begins()
            sent = process.finish(lambda line: show(f"memory: {line}"))
    found = _facts(plan, sent, service=service.facts(), postgresql=postgres.facts())
    kept = not found["errors"] and found["service"]["peak_rss_mib"] < LIMIT_MIB
    return {"kept": kept, "mtu": mtu, **found}


def _facts(plan: Plan, sent: Sent, **memory: dict[str, float]) -> dict[str, Any]:
    return {
        "connections": plan.connections,
        "megabytes": plan.megabytes,
        "uploads": len(sent.took),
        "acknowledged": len(sent.accepted),
        "errors": sent.errors,
        "seconds": round(sent.seconds, 2),
        "megabytes_per_second": round(len(sent.accepted) * plan.megabytes / sent.seconds, 1),
        **memory,
    }


class Watched:
    """Some processes, and the most memory that they had."""

    def __init__(self, pids: Callable[[], Sequence[int]]) -> None:
        self._pids = pids
        self._pss_before = self._pss_peak = self._rss_before = self._rss_peak = 0

    def begin(self) -> None:
        pids = self._pids()
        reset_peak(pids)  # the peak is what they have now
        self._rss_before, self._pss_before = peak_rss_bytes(pids), pss_bytes(pids)

    def sample(self) -> None:
        """Peaks as well: of those that end, only the last sample tells."""
        pids = self._pids()
        self._pss_peak = max(self._pss_peak, pss_bytes(pids))
        self._rss_peak = max(self._rss_peak, peak_rss_bytes(pids))

    def facts(self) -> dict[str, float]:
        """In MiB."""
        values = {
            "peak_rss_mib": self._rss_peak,
            "peak_pss_mib": self._pss_peak,
            "idle_rss_mib": self._rss_before,
            "idle_pss_mib": self._pss_before,
        }
        return {name: round(value / MIB, 1) for name, value in values.items()}


@contextmanager
def watching(*parts: Watched) -> Iterator[None]:
    """Sample all of them now and then, and at the end."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(SAMPLE_SECONDS):
            for part in parts:
                part.sample()

    for part in parts:
        part.begin()
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for part in parts:
            part.sample()


def _write_sound(file: Path, size: int) -> None:
    speech = SPEECH.read_bytes()
    file.write_bytes((speech * (size // len(speech) + 1))[:size])


def _with_children(pid: int) -> list[int]:
    return [pid, *children_of(pid)]


def tell(found: dict[str, Any]) -> Iterator[str]:
    """For people."""
    yield (
        "memory: {connections} connections send files of {megabytes:g} MiB at once, {uploads} in"
        " all, in {seconds} s ({megabytes_per_second} MiB/s)"
    ).format_map(found)
    yield f"  {'':12}{'RSS idle':>10}{'peak':>8}{'PSS idle':>10}{'peak':>8}  MiB"
    for name, label in (("service", "service"), ("postgresql", "PostgreSQL")):
        line = "{idle_rss_mib:>10}{peak_rss_mib:>8}{idle_pss_mib:>10}{peak_pss_mib:>8}"
        remark = f"  peak RSS must be below {LIMIT_MIB:g}" if name == "service" else ""
        yield f"  {label:12}" + line.format_map(found[name]) + remark
    yield f"  errors      {sum(found['errors'].values())}: must be 0  " + ", ".join(
        f"{kind} {number}" for kind, number in found["errors"].items()
    )
