"""Those whose uploads are compared: the service, another version of it, and the bare limit.

When whose turn it is, and what the rounds add up to, does not belong here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg
from lab.recorder import Recorder
from lab.service import ServiceProcess, Site, SiteError

from bench_service.devices import count_chunks, first_start, register
from bench_service.load import SPEECH, Load, Round, start, uploads
from bench_service.machine import SERVER_PROCESSES, cpu_seconds, milliseconds, service_cpu
from ingest_api.database import migrations

DEVICES = 200  # so that the first round lets every process know every folder


class Contender(Protocol):
    """One of them, running."""

    promise: str
    version: str

    def send(self, seconds: float) -> Round:
        """Upload for a while."""
        ...

    def cpu(self) -> float:
        """Return the seconds of processor time used so far, without PostgreSQL's and the load's."""
        ...

    def clear(self, came: Round) -> Iterator[str]:
        """Give back the room of a round; yield what is not as it should be."""
        ...


class Service:
    """gunicorn as in production."""

    promise = "synced files, committed rows"

    def __init__(self, service: ServiceProcess, connections: int, version: str) -> None:
        self.version = version
        self._service = service
        self._connections = connections
        self._devices = register(service.database_url, DEVICES)
        self._load = Load(service.address, uploads(self._devices), service.folder / "uploads")
        self._known = 0

    def send(self, seconds: float) -> Round:
        return self._load.send(connections=self._connections, seconds=seconds)

    def cpu(self) -> float:
        return service_cpu(self._service)

    def clear(self, came: Round) -> Iterator[str]:
        self._service.require_running()
        known, self._known = self._known, count_chunks(self._service.database_url, self._devices)
        files = empty_files(self._service.storage)
        for what, stored in (("rows", self._known - known), ("files", files)):
            # Uploads in flight when the round ended may be stored as well.
            if not came.accepted <= stored <= came.accepted + came.errors + self._connections:
                yield f"{what}: {stored} for {came.accepted} accepted uploads"


@contextmanager
def other_version(site: Site, checkout: Path, folder: Path) -> Iterator[ServiceProcess]:
    """Run the service of another checkout, with its own `.venv`, on a database of its own."""
    python = checkout.absolute() / ".venv/bin/python"
    if not python.exists():
        raise SiteError(f"{python} does not exist: run {checkout}/scripts/bootstrap")
    names = ("ADMIN_TOKEN", "WORKERS", "GUNICORN_CMD_ARGS")
    settings = {name: site.service.settings[name] for name in names}
    database_url = new_database(site, folder.name)
    service = ServiceProcess(folder, database_url, settings, python=str(python))
    folder.mkdir()
    migrate = [str(python), "-m", "flask", "ingest", "migrate"]
    done = subprocess.run(
        migrate, env=service.environ(), cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SiteError(f"{checkout} cannot migrate: {done.stderr[-500:]}")
    try:
        yield service.start()
    finally:
        service.kill()


def new_database(site: Site, name: str) -> str:
    """Return the address of a new database beside the site's own."""
    with site.connect() as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    return site.postgres.url(name)


def revision(checkout: Path) -> str:
    """Return the git revision of a checkout, or "?"."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "?"


class Limit:
    """Bare processes that write files and rows as durably as the service, without HTTP.

    What one of them does: bare.py. They wait between the rounds.
    """

    promise = "synced files, committed rows, no HTTP"
    version = f"{4 * SERVER_PROCESSES} processes"

    def __init__(
        self,
        folder: Path,
        database_url: str,
        devices: Sequence[Recorder],
        running: list[subprocess.Popen[bytes]],
    ) -> None:
        self._folder, self._database_url, self._devices = folder, database_url, devices
        self._running = running
        self._next = self._known = 0

    def send(self, seconds: float) -> Round:
        for process in self._running:
            _write(process, {"number": self._next, "seconds": seconds})
        parts = [json.loads(_read(process)) for process in self._running]
        took = [value for part in parts for value in part["took"]]
        self._next += len(parts) * max(len(part["took"]) for part in parts)
        longest = max(part["seconds"] for part in parts)
        return Round(accepted=len(took), errors=0, seconds=longest, **milliseconds(took))

    def cpu(self) -> float:
        return cpu_seconds(process.pid for process in self._running)

    def clear(self, came: Round) -> Iterator[str]:
        known, self._known = self._known, count_chunks(self._database_url, self._devices)
        for what, stored in (("rows", self._known - known), ("files", empty_files(self._folder))):
            if stored != came.accepted:
                yield f"{what}: {stored} for {came.accepted} uploads"


@contextmanager
def limit(site: Site, folder: Path) -> Iterator[Limit]:
    """Run the bare processes meanwhile, with their files in `folder`."""
    (folder / ".incoming").mkdir(parents=True)
    database_url = new_database(site, folder.name)
    with psycopg.connect(database_url, autocommit=True) as connection:
        list(migrations.apply(connection))
    devices = register(database_url, DEVICES)
    count = 4 * SERVER_PROCESSES
    task = {
        "folder": str(folder),
        "database_url": database_url,
        "sound": str(SPEECH),
        "first": first_start(),
        "devices": [[str(id) for id in (d.device_id, d.point_id, d.register_id)] for d in devices],
        "step": count,
    }
    with ExitStack() as stack:
        running = [_start(task | {"place": place}, stack) for place in range(count)]
        for process in running:
            _read(process)
        yield Limit(folder, database_url, devices, running)


def _start(task: dict[str, Any], stack: ExitStack) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "bench_service.bare"]
    process = start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    stack.callback(process.wait)
    stack.callback(process.kill)
    _write(process, task)
    return process


def _write(process: subprocess.Popen[bytes], document: dict[str, Any]) -> None:
    assert process.stdin
    process.stdin.write(json.dumps(document).encode() + b"\n")
    process.stdin.flush()


def _read(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise SiteError("a bare process ended by itself")
    return line


def empty_files(folder: Path) -> int:
    """Give back the room of the files below a folder; return how many of them were not empty.

    They are not removed: ext4 skips the inodes of files removed in the last five minutes one by one
    (`recently_deleted` in fs/ext4/ialloc.c), and a new file among ten thousand of those costs more
    than the rest of an upload.
    """
    count = 0
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if path.stat().st_size:
                os.truncate(path, 0)
                count += 1
    return count
