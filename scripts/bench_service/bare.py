"""The limit: bare processes that write files and rows as durably as the service, without HTTP.

They use the service's statement and file names, and none of its code for files.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from lab.postgres import die_with_parent
from lab.recorder import Recorder
from lab.service import Site

from bench_service.contenders import DEVICES, empty_files, new_database
from bench_service.devices import CHUNK_SECONDS, first_start, register, start_of
from bench_service.load import SPEECH, Round
from bench_service.machine import SERVER_PROCESSES, milliseconds
from ingest_api.database import migrations, queries
from ingest_api.models.chunks import ChunkStatus, Recording
from ingest_api.usecases.uploads import new_chunk

PROCESSES = 4 * SERVER_PROCESSES
_MINUTE = timedelta(seconds=CHUNK_SECONDS)


class Part(NamedTuple):
    """What one process did in a round."""

    took: list[float]
    seconds: float
    cpu: float


class Limit:
    """The processes; they wait between the rounds."""

    about = f"{PROCESSES} processes; synced files, committed rows, no HTTP"

    def __init__(self, pool: Any, folder: Path) -> None:
        self._pool, self._folder = pool, folder
        self._next = 0
        self._cpu = 0.0

    def send(self, seconds: float) -> Round:
        tasks = [(self._next + place, seconds) for place in range(PROCESSES)]
        parts: list[Part] = self._pool.starmap(_run_round, tasks, chunksize=1)  # one each
        self._next += PROCESSES * max(len(part.took) for part in parts)
        self._cpu += sum(part.cpu for part in parts)
        took = [value for part in parts for value in part.took]
        longest = max(part.seconds for part in parts)
        return Round(accepted=len(took), errors=0, seconds=longest, **milliseconds(took))

    def cpu(self) -> float:
        return self._cpu

    def clear(self, came: Round) -> Iterator[str]:
        stored = empty_files(self._folder)
        if stored != came.accepted:
            yield f"files: {stored} for {came.accepted} uploads"


@contextmanager
def limit(site: Site, folder: Path) -> Iterator[Limit]:
    """Run the bare processes meanwhile, with their files in `folder`."""
    (folder / ".incoming").mkdir(parents=True)
    database_url = new_database(site, folder.name)
    with psycopg.connect(database_url, autocommit=True) as connection:
        list(migrations.apply(connection))
    arguments = str(folder), database_url, register(database_url, DEVICES), first_start()
    fork = multiprocessing.get_context("fork")
    with fork.Pool(PROCESSES, _begin, (die_with_parent(signal.SIGKILL), *arguments)) as pool:
        yield Limit(pool, folder)


def _begin(bind: Any, *arguments: Any) -> None:
    """Prepare one process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the benchmark
    bind()
    globals()["_bare"] = Bare(*arguments)


def _run_round(first: int, seconds: float) -> Part:
    """Upload until the time is up."""
    bare: Bare = globals()["_bare"]
    took = []
    cpu = time.process_time()
    started = before = time.perf_counter()
    for number in range(first, sys.maxsize, PROCESSES):
        bare.upload(number)
        now = time.perf_counter()
        took.append(now - before)
        before = now
        if now - started >= seconds:
            break
    return Part(took, before - started, time.process_time() - cpu)


class Bare:
    """One process's files and its connection."""

    def __init__(
        self, root: str, database_url: str, devices: Sequence[Recorder], first: int
    ) -> None:
        self._root, self._devices, self._first = root, devices, first
        self._sound = SPEECH.read_bytes()
        self._durable = {root}  # folders
        self._connection = psycopg.connect(database_url, autocommit=True)

    def upload(self, number: int) -> None:
        """Store it: when this returns, a power cut leaves its file and its row."""
        temporary = f"{self._root}/.incoming/{number}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o640)
        assert os.write(descriptor, self._sound) == len(self._sound)
        sha256 = hashlib.sha256(self._sound).digest()
        os.fsync(descriptor)
        chunk = new_chunk(self._recording(number), sha256=sha256, size=len(self._sound))
        final = f"{self._root}/{chunk.file_path}"
        folder = os.path.dirname(final)  # noqa: PTH120  plain calls only
        self._make_durable(folder)
        os.link(temporary, final)
        _sync(folder)
        queries.chunks.insert_chunk(self._connection, chunk, status=ChunkStatus.QUEUED)
        os.close(descriptor)
        os.unlink(temporary)  # noqa: PTH108

    def _recording(self, number: int) -> Recording:
        who = self._devices[number % len(self._devices)]
        start = datetime.fromtimestamp(start_of(number, len(self._devices), self._first), UTC)
        ids = who.device_id, who.point_id, who.register_id
        return Recording(*ids, start, start + _MINUTE, "opus", 48000, 1)

    def _make_durable(self, folder: str) -> None:
        if folder in self._durable:
            return
        parent = os.path.dirname(folder)  # noqa: PTH120
        self._make_durable(parent)
        os.makedirs(folder, 0o750, exist_ok=True)  # noqa: PTH103
        _sync(parent)
        self._durable.add(folder)


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fsync(descriptor)
    os.close(descriptor)
