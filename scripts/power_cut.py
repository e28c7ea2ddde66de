"""What is on the disk at some moment, of what had been acknowledged by then: see `power-cut`.

What it proves: with ext4 and PostgreSQL as they are, and whatever the page cache still held back.
What it does not: that a disk keeps what it says it has written.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import psycopg
from lab.postgres import LocalPostgres
from lab.recorder import Attempt, Chunk, Recorder, RecorderAgent
from lab.service import Site

from ingest_api.server.gthread import UploadWorker

DEVICES = 10
CHUNK_BYTES = 20_000
IMAGE_BYTES = 4 * 2**30  # sparse


class CarelessWorker(UploadWorker):
    """The service as it would be if nobody had thought of fsync; for --control."""

    def init_process(self) -> None:
        os.fsync = lambda fd: None  # noqa: ARG005  under the name that it has
        super().init_process()


class Acknowledged:
    """The uploads that were answered with 200: path and SHA-256. Any thread may add to it."""

    def __init__(self) -> None:
        self._all: dict[str, bytes] = {}

    def record(self, _recorder: Recorder, attempt: Attempt) -> None:
        if attempt.accepted and attempt.answer:
            sha256 = hashlib.sha256(attempt.chunk.data).digest()
            self._all[attempt.answer["stored_path"]] = sha256

    def so_far(self) -> dict[str, bytes]:
        return self._all.copy()


def main() -> None:
    """Cut again and again; exit status 1 when something was lost (with --control: when not)."""
    options = _parse_arguments()
    if os.geteuid() != 0:
        sys.exit("power-cut mounts file systems: run it as root")
    lost = 0
    with tempfile.TemporaryDirectory(prefix="power-cut-") as name:
        folder = Path(name)
        image = folder / "disk.img"
        _make_file_system(image)
        with (
            _mounted(image, folder / "disk") as disk,
            _site(disk, options.control) as site,
            _load(site) as acknowledged,
        ):
            for number in range(1, options.cuts + 1):
                time.sleep(random.uniform(0.2, 1.5))
                promised = _cut(site, acknowledged, image, folder / "copy.img")
                found = _look(folder / "copy.img", folder / "copy", promised)
                print(f"cut {number}: {len(promised)} acknowledged, {found} lost", flush=True)
                lost += found
    verdict = "something was lost" if lost else "nothing was lost"
    print(f"{options.cuts} cuts: {verdict}" + (" (as it should be)" * options.control * bool(lost)))
    sys.exit(bool(lost) != options.control)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="power-cut",
        description="Cuts the power at random moments and looks for what had been acknowledged.",
    )
    parser.add_argument("--cuts", type=int, default=10, help="how many (default %(default)s)")
    parser.add_argument(
        "--control", action="store_true", help="disarm fsync: uploads must be lost then"
    )
    return parser.parse_args()


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _make_file_system(image: Path) -> None:
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    _run("mkfs.ext4", "-q", "-F", image)


@contextmanager
def _mounted(image: Path, point: Path) -> Iterator[Path]:
    """As a disk that writes nothing by itself: not for ten minutes, unless it is asked to."""
    point.mkdir(exist_ok=True)
    _run("mount", "-o", "loop,commit=600", image, point)
    try:
        yield point
    finally:
        _run("umount", point)


def _site(disk: Path, control: bool) -> Site:
    careless = {
        "GUNICORN_CMD_ARGS": "--worker-class=power_cut.CarelessWorker",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    return Site(disk / "site", workers=4, environ=careless if control else None)


@contextmanager
def _load(site: Site) -> Iterator[Acknowledged]:
    """Recorders that upload as fast as they are answered."""
    acknowledged = Acknowledged()
    agents = [
        RecorderAgent(site.new_recorder(), site.address, acknowledged.record)
        for _ in range(DEVICES)
    ]
    threads = [threading.Thread(target=agent.run, args=[_spool()]) for agent in agents]
    for thread in threads:
        thread.start()
    try:
        yield acknowledged
    finally:
        for agent in agents:
            agent.switch_off()
        for thread in threads:
            thread.join()


def _spool() -> Iterator[Chunk]:
    """An hour apart, so that each needs a new folder."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for number in count():
        yield Chunk(start + timedelta(hours=number), os.urandom(CHUNK_BYTES))


def _cut(site: Site, acknowledged: Acknowledged, image: Path, copy: Path) -> dict[str, bytes]:
    """Copy what is on the disk while everything stands still."""
    promised = acknowledged.so_far()
    with site.standing_still():
        _run("cp", "--sparse=always", image, copy)
    return promised


def _look(copy: Path, point: Path, promised: dict[str, bytes]) -> int:
    """How many of the promised are not there with row and file."""
    with _mounted(copy, point) as disk:
        # It names a process that lives on, as after no power cut.
        (disk / "site/postgres/postmaster.pid").unlink(missing_ok=True)
        postgres = LocalPostgres(disk / "site")
        postgres.start()
        try:
            with psycopg.connect(postgres.url()) as connection:
                query = connection.execute("SELECT file_path, sha256 FROM audio_chunks")
                rows: dict[str, bytes] = dict(query)
        finally:
            postgres.stop()
        return sum(
            rows.get(path) != sha256 or _sha256(disk / "site" / "audio" / path) != sha256
            for path, sha256 in promised.items()
        )


def _sha256(file: Path) -> bytes:
    try:
        return hashlib.sha256(file.read_bytes()).digest()
    except OSError:
        return b""


if __name__ == "__main__":
    main()
