"""How many chunks a fleet of worker processes gets done, while some of them are killed in mid-work
and recorders go on uploading; and whether each was done, once, with the bytes that were uploaded.

What one worker does: worker.py. What is right: verdict.py.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bench_tools.machine import SERVING, loopback_mtu, milliseconds
from bench_tools.programs import python, start
from lab.service import Site, SiteError

from ingest_api.tokens import generate_token
from queue_bench.uploads import Uploads
from queue_bench.verdict import judge

LEASE_SECONDS = 5
PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Plan:
    """What the fleet has to do."""

    chunks: int = 10_000  # there before it starts
    workers: int = 16
    kills: int = 20
    rate: float = 40.0  # uploads a second meanwhile
    serving: int = SERVING  # gunicorn's workers
    mtu: int = 1500


class Fleet:
    """Worker processes. For the main thread, with which they die."""

    def __init__(self, site: Site, token: str) -> None:
        self._site = site
        self._environ = {"INTERNAL_TOKEN": token}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.notes: list[Path] = []
        self.kills = 0

    def hire(self) -> None:
        """Start one more."""
        name = f"worker-{len(self.notes)}"
        notes = self._site.folder / f"{name}.notes"
        notes.touch()
        host, port = self._site.address
        command = python("queue_bench.worker", host, port, name, notes, LEASE_SECONDS)
        self._running[name] = start(command, environ=self._environ)
        self.notes.append(notes)

    def lose_one(self) -> None:
        """Kill any of those that have chunks in hand, and start another in its place."""
        process = self._running.pop(random.choice(self._busy() or list(self._running)))
        process.kill()
        process.wait()
        self.kills += 1
        self.hire()

    def require_running(self) -> None:
        """SiteError when one ended by itself."""
        if any(process.poll() is not None for process in self._running.values()):
            raise SiteError("a worker process ended by itself")

    def dismiss(self) -> None:
        """End all of them."""
        for process in self._running.values():
            process.kill()
            process.wait()

    def _busy(self) -> list[str]:
        query = "SELECT DISTINCT worker FROM audio_chunks WHERE status = 'PROCESSING'"
        with self._site.connect() as connection:
            holders = {worker for (worker,) in connection.execute(query)}
        return [name for name in self._running if name in holders]


class Progress(NamedTuple):
    """How far it has come."""

    seconds: float
    first_open: int  # of the chunks that were there first, those that are not finished
    open: int  # of all
    finished: int


def run(folder: Path, plan: Plan, show: Callable[[str], None]) -> dict[str, Any]:
    """Upload, work, judge; what was found."""
    token = generate_token()
    environ = {"INTERNAL_TOKEN": token}
    with (
        Site(folder, workers=plan.serving, environ=environ) as site,
        loopback_mtu(plan.mtu) as mtu,
    ):
        uploads = Uploads(site)
        show(f"workers: {plan.chunks} chunks are uploaded beforehand")
        uploads.send_at_once(plan.chunks)
        with _fleet(site, token, plan.workers) as fleet:
            show(f"workers: {plan.workers} of them begin")
            first, last = _work(site, fleet, uploads, plan)
        verdict = judge(site.database_url, uploads.acknowledged, fleet.notes, fleet.kills)
    return {
        "kept": verdict.holds and not uploads.failures,
        "mtu": mtu,
        "workers": plan.workers,
        "chunks": plan.chunks,
        "chunks_per_second": round(first.finished / first.seconds, 1),
        "seconds": round(first.seconds, 1),
        "drained_seconds": round(last.seconds, 1),
        "acknowledged": len(uploads.acknowledged),
        "uploads_beside": len(uploads.seconds),
        "upload_errors": dict(uploads.failures),
        "uploads": milliseconds(uploads.seconds),
        **vars(verdict),
    }


@contextmanager
def _fleet(site: Site, token: str, size: int) -> Iterator[Fleet]:
    fleet = Fleet(site, token)
    try:
        for _ in range(size):
            fleet.hire()
        yield fleet
    finally:
        fleet.dismiss()


def _work(site: Site, fleet: Fleet, uploads: Uploads, plan: Plan) -> tuple[Progress, Progress]:
    """Until the first chunks are done, and then until all are. The deaths are spread evenly over
    the work, so that each comes in the middle of it on any machine."""
    with closing(_progress(site, fleet)) as progress:
        with uploads.going_on(plan.rate):
            for number in range(plan.kills):
                left = plan.chunks * (plan.kills - number) // (plan.kills + 1)
                next(now for now in progress if now.first_open <= left)
                time.sleep(random.uniform(0, 0.1))  # or it would always be one that has just done
                fleet.lose_one()
            first = next(now for now in progress if not now.first_open)
        return first, next(now for now in progress if not now.open)


def _progress(site: Site, fleet: Fleet) -> Generator[Progress, None, None]:
    """Again and again; SiteError when there is none for long."""
    count = """
        SELECT count(*) FILTER (WHERE is_open AND is_first), count(*) FILTER (WHERE is_open),
            count(*) FILTER (WHERE NOT is_open)
        FROM (
            SELECT status IN ('UPLOADED', 'QUEUED', 'PROCESSING') AS is_open,
                created_at <= %s AS is_first
            FROM audio_chunks
        ) AS chunks
    """
    started = moved = time.monotonic()
    before = None
    with site.connect() as connection:
        begin = connection.execute("SELECT max(created_at) FROM audio_chunks").fetchone()
        while time.monotonic() < moved + PATIENCE_SECONDS:
            counts = connection.execute(count, begin).fetchone() or ()
            yield Progress(time.monotonic() - started, *counts)
            fleet.require_running()
            site.require_running()
            if counts != before:
                before, moved = counts, time.monotonic()
            time.sleep(0.1)
    raise SiteError(f"no chunk was finished in {PATIENCE_SECONDS} s")
