"""A process that stores uploads without HTTP: file and row as durable as the service makes them.

    python -m bench_service.bare

The first line of its input says what to do, each further line is a round: see contenders.py. It
uses the service's statement and file names, and none of its code for files.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from bench_service.devices import CHUNK_SECONDS, start_of
from ingest_api.database import queries
from ingest_api.models.chunks import Recording
from ingest_api.usecases.uploads import new_chunk

_MINUTE = timedelta(seconds=CHUNK_SECONDS)


class Bare:
    """One process's files and its connection."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._root = task["folder"]
        self._sound = Path(task["sound"]).read_bytes()
        self._first = task["first"]
        self._devices = [tuple(map(UUID, ids)) for ids in task["devices"]]
        self._durable = {self._root}  # folders
        self._connection = psycopg.connect(task["database_url"], autocommit=True)

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
        queries.chunks.insert_chunk(self._connection, chunk, status="QUEUED")
        os.close(descriptor)
        os.unlink(temporary)  # noqa: PTH108

    def _recording(self, number: int) -> Recording:
        device_id, point_id, register_id = self._devices[number % len(self._devices)]
        seconds = start_of(number, len(self._devices), self._first)
        start = datetime.fromtimestamp(seconds, UTC)
        return Recording(device_id, point_id, register_id, start, start + _MINUTE, "opus", 48000, 1)

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


def run_round(bare: Bare, numbers: range, seconds: float) -> dict[str, Any]:
    """Upload until the time is up."""
    took = []
    started = before = time.perf_counter()
    for number in numbers:
        bare.upload(number)
        now = time.perf_counter()
        took.append(now - before)
        before = now
        if now - started >= seconds:
            break
    return {"seconds": before - started, "took": took}


def main() -> None:
    """Store uploads, round by round, until the input ends."""
    line = sys.stdin.readline()
    if not line:  # the benchmark was interrupted before it said what to do
        return
    task = json.loads(line)
    bare = Bare(task)
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        numbers = range(order["number"] + task["place"], sys.maxsize, task["step"])
        print(json.dumps(run_round(bare, numbers, order["seconds"])), flush=True)


if __name__ == "__main__":
    main()
