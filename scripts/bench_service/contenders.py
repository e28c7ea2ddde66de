"""The service as one of those whose uploads are compared, in this version and in others."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from lab.service import ServiceProcess, Site, SiteError

from bench_service.devices import count_chunks, register
from bench_service.load import Load, Round, uploads
from bench_service.machine import service_cpu
from bench_service.turns import Server

DEVICES = 200  # so that the first round lets every process know every folder


class Contender(Server, Protocol):
    """One of them, running."""

    about: str

    def clear(self, came: Round) -> Iterator[str]:
        """Give back the room of a round; yield what is not as it should be."""
        ...


class Service:
    """gunicorn as in production."""

    def __init__(self, service: ServiceProcess, connections: int, checkout: Path) -> None:
        self.about = f"{revision(checkout)}; synced files, committed rows"
        self._service, self._connections = service, connections
        self._devices = register(service.database_url, DEVICES)
        self._load = Load(service.address, uploads(self._devices), service.folder / "uploads")
        self._known = 0

    def send(self, seconds: float) -> Round:
        return self._load.send(connections=self._connections, seconds=seconds)

    def cpu(self) -> float:
        return service_cpu(self._service)

    def clear(self, came: Round) -> Iterator[str]:
        """Compare rows and files with what was accepted."""
        self._service.require_running()
        known, self._known = self._known, count_chunks(self._service.database_url, self._devices)
        files = empty_files(self._service.storage)
        for what, stored in (("rows", self._known - known), ("files", files)):
            # Uploads in flight when the round ended may be stored as well.
            if not came.accepted <= stored <= came.accepted + came.errors + self._connections:
                yield f"{what}: {stored} for {came.accepted} accepted uploads"


@contextmanager
def version(site: Site, checkout: Path, folder: Path) -> Iterator[ServiceProcess]:
    """Run the service of a checkout, with its own `.venv`, on a database of its own."""
    python = checkout / ".venv/bin/python"
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
    return (
        subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "?"
    )


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
