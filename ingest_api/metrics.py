"""Every metric on one screen: what it is called, and what it means.

Processes count for themselves, in files that the master keeps (`server/metric_files.py`), so that
any of them can tell of all. Labels have values from closed sets alone: nobody outside can add one.
"""

import os
from collections.abc import Iterator
from itertools import pairwise, repeat

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from ingest_api.models.chunks import Receipt
from ingest_api.models.monitoring import LedgerFigures

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # the library reads it

_STAGES = ("receive", "sync", "database")

# Seconds: what a disk, a database and a bad network need.
_DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_WAITS = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 2)


class Metrics:
    """What the processes count. The methods cost a few microseconds each."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        labels, meaning = ["status", "code"], "Uploads answered."
        self._uploads = Counter("ingest_uploads", meaning, labels, registry=own)
        meaning = "Bytes of the bodies of uploads received."
        self._bytes = Counter("ingest_upload_bytes", meaning, registry=own)
        meaning = "Uploads of chunks that were known already."
        self._replays = Counter("ingest_replays", meaning, registry=own)
        stages = Histogram(
            "ingest_upload_stage_seconds",
            "Time of accepted uploads: until their body was here (receive), durable (sync), and "
            "committed (database).",
            ["stage"],
            buckets=_DURATIONS,
            registry=own,
        )
        self._stages = [stages.labels(stage) for stage in _STAGES]
        meaning = "Waits for a connection to the database, of more than a millisecond."
        self._waits = Histogram(
            "ingest_database_wait_seconds", meaning, buckets=_WAITS, registry=own
        )
        meaning = "Threads that serve a request."
        self._threads = Gauge(
            "ingest_threads_in_use", meaning, multiprocess_mode="livesum", registry=own
        )
        self._threads.set(0)  # those of a process that was killed are gone

    def count_upload(self, status: int, code: str | None, size: int) -> None:
        """Count the answer to an upload of so many bytes."""
        self._uploads.labels(str(status), code or "").inc()
        self._bytes.inc(size)

    def count_accepted(self, receipt: Receipt) -> None:
        """Count the stages of an accepted upload, and whether it was a replay."""
        for stage, (begun, ended) in zip(self._stages, pairwise(receipt.moments), strict=False):
            stage.observe(ended - begun)
        if receipt.duplicate:
            self._replays.inc()

    def count_wait(self, seconds: float) -> None:
        """Count a wait for a connection to the database."""
        self._waits.observe(seconds)

    def tell_threads(self, busy: int) -> None:
        """Tell how many threads of this process serve a request."""
        self._threads.set(busy)

    def expose(self, figures: LedgerFigures | None) -> bytes:
        """Return all metrics in Prometheus' text format; without figures the ledger is down."""
        registry = CollectorRegistry()
        if _FOLDER in os.environ:
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        else:
            registry.register(self._registry)
        registry.register(_Ledger(figures))
        return generate_latest(registry)


class _Ledger:
    """What is read from the ledger when it is asked for."""

    def __init__(self, figures: LedgerFigures | None) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        yield _gauge("database_up", "Whether the database answered.", int(bool(self._figures)))
        if self._figures:
            yield from _ledger_metrics(self._figures)


def _ledger_metrics(figures: LedgerFigures) -> Iterator[Metric]:
    yield _labelled("devices", "Devices by what they are doing.", "state", figures.devices)
    yield _labelled(
        "chunks",
        "Chunks by status; more than 100,000 finished ones are estimated.",
        "status",
        figures.chunks,
    )
    for name, meaning, value in (
        ("oldest_waiting_seconds", "For how long a chunk has waited.", figures.oldest_waiting),
        ("expired_leases", "Chunks whose worker let its lease expire.", figures.expired_leases),
        (
            "coverage_ratio",
            "Share of the minutes that enabled devices recorded, of the hour until 10 minutes ago.",
            figures.coverage,
        ),
        ("storage_free_bytes", "Bytes free on the disk of the recordings.", figures.free_bytes),
        ("schema_version", "The newest migration that was applied.", figures.schema_version),
        ("backup_age_seconds", "Time since the last backup was complete.", figures.backup_age),
        ("fsck_age_seconds", "Time since the last fsck was complete.", figures.fsck_age),
    ):
        if value is not None:
            yield _gauge(name, meaning, value)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"ingest_{name}", meaning, value=value)


def _labelled(name: str, meaning: str, label: str, found: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(f"ingest_{name}", meaning, labels=[label])
    for key, value in found.items():
        family.add_metric([key], value)
    return family


def count_in_files(folder: str, slot: int | None) -> None:
    """Have this process count in files of a folder, or, without a slot, for itself; it tells what
    the files say. No two live processes may have one slot; the next process of a slot continues
    what the last one has counted."""
    os.environ[_FOLDER] = folder
    if slot is not None:
        # `__next__`: it is called at each count, and costs less than a function.
        by_slot = values.MultiProcessValue(repeat(slot).__next__)  # type: ignore[no-untyped-call]
        values.ValueClass = by_slot
