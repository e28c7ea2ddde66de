"""One of the sites that are compared: what is done to it in a round, and what that came to.

How many sites there are, how large, and whose turn it is, does not belong here.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any

from bench_tools.client import ApiClient
from bench_tools.machine import SETTLING_SECONDS, postgres_cpu, service_cpu
from lab.recorder import UPLOAD_PATH, Chunk, Recorder, connect, upload_body, upload_headers
from lab.service import Site, SiteError

from upload_bench.contender import empty_files
from upload_bench.load import Round, UploadLoad
from upload_bench.recorders import site_recorders, start_of

DEVICES = "/api/v1/admin/devices"
BATCH = 10  # chunks that a claim asks for
LEASE_SECONDS = 3600  # none ends while this goes on
WARM_SOUND = b"warm"  # other bytes than those of the load, so that it is another chunk
WARMING_THREADS = 8
WARMING_DEVICES = 2000  # at a time: gunicorn's master takes a worker that rests for long for dead
REST_SECONDS = 0.1
FINISH = "UPDATE audio_chunks SET status = 'DONE', lease_expires_at = NULL WHERE chunk_id = ANY(%s)"


@dataclass(frozen=True)
class Size:
    """What grows."""

    rows: int
    devices: int


@dataclass
class GrownSite:
    """A site of some size, and what its rounds came to."""

    size: Size
    site: Site
    token: str  # for the admin's and for the internal API
    fill_seconds: float = 0.0
    rounds: list[Round] = field(default_factory=list)
    cpu: list[dict[str, float]] = field(default_factory=list)  # ms of one upload, by who used it
    calls: dict[str, list[float]] = field(default_factory=dict)  # seconds

    def register(self) -> None:
        self.recorders = site_recorders(self.site, self.size.devices)

    def prepare(self, first_start: int) -> None:
        """Bring it to where a service is that has been running for long; see `_warm`."""
        self._load = UploadLoad(self.site.address, self.recorders, self.site.folder)
        for begin in range(0, self.size.devices, WARMING_DEVICES):
            numbers = range(begin, min(begin + WARMING_DEVICES, self.size.devices))
            for worker in self.site.workers():
                with _alone(self.site, worker):
                    self._warm(numbers, first_start)
                time.sleep(REST_SECONDS)
        empty_files(self.site.storage)

    def _warm(self, numbers: Sequence[int], first_start: int) -> None:
        """Let the one worker that runs get to know the folders into which these devices will
        upload first. A worker remembers those that it found durable, and in the field a device
        uploads to a folder that its worker knows, but for the first time in an hour."""
        todo = iter(numbers)

        def work(_thread: int) -> None:
            connection = connect(self.site.address)
            for number in todo:
                start = start_of(number, self.size.devices, first_start)
                chunk = Chunk(datetime.fromtimestamp(start, UTC), WARM_SOUND)
                _upload(connection, self.recorders[number], chunk)
            connection.close()

        with ThreadPoolExecutor(WARMING_THREADS) as pool:
            list(pool.map(work, range(WARMING_THREADS)))

    def upload(self, *, connections: int, seconds: float, counts: bool) -> None:
        """A round of uploads, after which their files are empty."""
        before = _cpu(self.site)
        came = self._load.send(connections=connections, seconds=seconds)
        time.sleep(SETTLING_SECONDS)
        after = _cpu(self.site)
        if came.errors and not counts:
            raise SiteError(f"{came.errors} uploads failed in the first round")
        if counts:
            self.rounds.append(came)
            costs = {who: 1000 * (after[who] - before[who]) for who in after}
            self.cpu.append({who: cost / max(1, came.uploads) for who, cost in costs.items()})
        empty_files(self.site.storage)
        os.sync()

    def ask(self, count: int) -> None:
        """So many requests of each other kind, one after another."""
        claimed: list[str] = []
        client = ApiClient(self.site.address, self.token)

        def claim() -> None:
            chunks = client.claim("benchmark", limit=BATCH, lease_seconds=LEASE_SECONDS)
            claimed.extend(chunk["chunk_id"] for chunk in chunks)

        for _ in range(count):
            self._time("claim", claim)
            self._time("health", lambda: client.get("/health"))
            self._time("devices", lambda: client.get(DEVICES))
        client.close()
        if len(claimed) != BATCH * count:
            raise SiteError(f"{len(claimed)} chunks were claimed, not {BATCH * count}")
        with self.site.connect() as database:  # as workers do
            database.execute(FINISH, [claimed])

    def _time(self, name: str, call: Callable[[], object]) -> None:
        started = time.perf_counter()
        call()
        self.calls.setdefault(name, []).append(time.perf_counter() - started)

    def facts(self, first: GrownSite) -> dict[str, Any]:
        """Medians of the rounds; `ratio` to the first site: of those of each round, because the
        machine is not equally fast in all of them."""
        pairs = zip(self.rates(), first.rates(), strict=True)
        return {
            **vars(self.size),
            "fill_seconds": round(self.fill_seconds, 1),
            "uploads_per_second": round(statistics.median(self.rates()), 1),
            "ratio": round(statistics.median(own / other for own, other in pairs), 3),
            "p50_ms": self._median("p50_ms"),
            "p99_ms": self._median("p99_ms"),
            "cpu_ms": {who: _median(one[who] for one in self.cpu) for who in self.cpu[0]},
            "call_ms": {
                name: round(1000 * statistics.median(took), 2) for name, took in self.calls.items()
            },
            "errors": sum(one.errors for one in self.rounds),
            "rounds": [round(rate, 1) for rate in self.rates()],
        }

    def rates(self) -> list[float]:
        """Uploads a second, by round."""
        return [one.uploads / one.seconds for one in self.rounds]

    def _median(self, name: str) -> float:
        return _median(getattr(one, name) for one in self.rounds)


def _median(values: Iterator[float]) -> float:
    return round(statistics.median(values), 3)


@contextmanager
def _alone(site: Site, worker: int) -> Iterator[None]:
    """Only this one of gunicorn's workers runs, so that all new connections are its own."""
    others = [pid for pid in site.workers() if pid != worker]
    try:
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)


def _upload(connection: HTTPConnection, recorder: Recorder, chunk: Chunk) -> None:
    body = upload_body(recorder, chunk)
    connection.request("POST", UPLOAD_PATH, body, upload_headers(recorder, len(body)))
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise SiteError(f"the service answered {response.status}: {content[:500]!r}")


def _cpu(site: Site) -> dict[str, float]:
    return {"service": service_cpu(site), "postgresql": postgres_cpu(site)}
