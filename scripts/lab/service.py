"""A PostgreSQL and a service of their own, with their processes, for tools that try them hard.

What to do to them, and when, is not known here.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from uuid import uuid4

import psycopg

from ingest_api.database import migrations
from ingest_api.database.pool import Connection
from ingest_api.settings import Settings
from ingest_api.tokens import generate_token
from ingest_api.usecases import devices
from lab.postgres import LocalPostgres, die_with_parent
from lab.recorder import Recorder

HOST = "127.0.0.1"
START_SECONDS = 30
STOP_SECONDS = 60
# Above what an upload of a soak takes, and below its patience.
GRACEFUL_SECONDS = 20


class SiteError(Exception):
    """It cannot go on; the message says why."""


class Site:
    """A context: all of it runs inside, and nothing of it outside. For the main thread, with which
    the processes die (see LocalPostgres.start)."""

    def __init__(
        self,
        folder: Path,
        *,
        workers: int,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.storage = folder / "audio"
        self.postgres = LocalPostgres(folder)
        self._log = folder / "service.log"
        self.address = HOST, free_port()
        self._workers = workers
        self._extra = {"ADMIN_TOKEN": generate_token()} | dict(environ or {})
        self._service: subprocess.Popen[bytes] | None = None
        self._thawing: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Site:
        self.postgres.start()
        try:
            self.database_url = self.postgres.url()
            with self.connect() as connection:
                list(migrations.apply(connection))
            self.start_service()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def connect(self) -> Connection:
        return psycopg.connect(self.database_url, autocommit=True)

    def new_recorder(self) -> Recorder:
        """Register a device."""
        token, ids = generate_token(), {name: uuid4() for name in ("point_id", "register_id")}
        with self.connect() as connection:
            device = devices.create_device(connection, device_id=uuid4(), token=token, **ids)
        return Recorder(device.device_id, device.point_id, device.register_id, token)

    @property
    def master(self) -> subprocess.Popen[bytes]:
        """gunicorn's master."""
        if self._service is None:
            raise SiteError("the service is not running")
        return self._service

    def workers(self) -> list[int]:
        """The process ids of gunicorn's workers, of which there is at least one."""
        while not (pids := children_of(self.master.pid)):
            self.require_running()
            time.sleep(0.05)
        return pids

    def wait_for_workers(self) -> None:
        """Return once all of gunicorn's workers have said in their log that they are ready: the
        service answers as soon as the first is."""
        while self._log.read_text().count('"Worker ready') < self._workers:
            self.require_running()
            time.sleep(0.05)

    def require_running(self) -> None:
        """SiteError when a part of it ended by itself."""
        parts = {"gunicorn": self.master, "PostgreSQL": self.postgres.process}
        for name, process in parts.items():
            if process.poll() is not None:
                status = process.returncode
                raise SiteError(f"{name} ended by itself, status {status}; see {self.folder}/*.log")

    def start_service(self) -> None:
        """Start it where the last one was, and wait till it answers."""
        with self._log.open("ab") as log:
            self._service = subprocess.Popen(
                [sys.executable, "-m", "ingest_api"],
                env=self.environ(),
                cwd=self.folder,  # where no .env is
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the soak
                preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509  it takes no lock
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            self.require_running()
            if time.monotonic() > deadline:
                raise SiteError(f"no answer from the service in {START_SECONDS} s; see {self._log}")
            time.sleep(0.05)

    def wait_for_service_to_end(self, seconds: float = STOP_SECONDS) -> None:
        """Return once the master has gone and its port can be bound again: workers outlive a
        killed master by what they have in hand. Those that take too long are killed."""
        deadline = time.monotonic() + seconds
        with suppress(subprocess.TimeoutExpired):
            self.master.wait(seconds)
        while self.master.poll() is None or not _can_bind(self.address):
            if time.monotonic() > deadline:
                self.kill_service()
            time.sleep(0.05)

    def kill_service(self) -> None:
        """The master and all of its workers, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.master.pid, signal.SIGKILL)
        self.master.wait()

    def freeze(self, pids: Sequence[int], seconds: float) -> None:
        """Stop these processes for a while. They go on by themselves, in the background."""
        # A process of its own, so that they go on even if this one is killed meanwhile.
        thaw = ["sh", "-c", 'sleep "$0"; kill -CONT "$@"', str(seconds), *map(str, pids)]
        self._thawing = [process for process in self._thawing if process.poll() is None]
        self._thawing.append(
            subprocess.Popen(thaw, stderr=subprocess.DEVNULL, start_new_session=True)
        )
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """All of it stopped in what it was doing."""
        postmaster = self.postgres.process.pid
        pids = [self.master.pid, *self.workers(), postmaster, *children_of(postmaster)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def wait_for_thaw(self) -> None:
        """Return once no process is frozen any more."""
        for process in self._thawing:
            process.wait()

    def _stop(self) -> None:
        self.wait_for_thaw()
        if self._service is not None:
            self.kill_service()
        self.postgres.stop()

    def environ(self) -> dict[str, str]:
        """The service's, and right for its commands too."""
        own = {
            "DATABASE_URL": self.database_url,
            "AUDIO_STORAGE_DIR": str(self.storage),
            "HOST": self.address[0],
            "PORT": str(self.address[1]),
            "WORKERS": str(self._workers),
            "GUNICORN_CMD_ARGS": f"--graceful-timeout={GRACEFUL_SECONDS}",
        }
        # What the developer has set is about other services.
        names = {item.name.upper() for item in fields(Settings)}
        names |= {f"{name}_FILE" for name in names}
        return (
            {name: value for name, value in os.environ.items() if name not in names}
            | own
            | self._extra
        )

    def _answers(self) -> bool:
        connection = HTTPConnection(*self.address, timeout=1)
        try:
            connection.request("GET", "/health/live")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()


def children_of(pid: int) -> list[int]:
    """The process ids of a process's children."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    return []


def free_port() -> int:
    """One below those that the kernel gives to clients: a client that tries to connect while the
    service is down would otherwise, one day, be given the service's own port."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = range(max(1024, lowest - 10_000), lowest)
    for port in random.sample(ports, len(ports)):
        if _can_bind((HOST, port)):
            return port
    raise SiteError("no port is free")


def _can_bind(address: tuple[str, int]) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gunicorn does
        try:
            probe.bind(address)
        except OSError:
            return False
    return True
