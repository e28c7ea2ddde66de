"""A service together with a PostgreSQL of its own.

What is done to them, and when, does not belong here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from uuid import uuid4

import psycopg

from ingest_api.database import migrations
from ingest_api.database.pool import Connection
from ingest_api.models.devices import NewDevice
from ingest_api.tokens import generate_token
from ingest_api.usecases import devices
from lab.postgres import LocalPostgres
from lab.recorder import Recorder
from lab.service_process import HOST, ServiceProcess, SiteError, can_bind, children_of, free_port

__all__ = ["HOST", "ServiceProcess", "Site", "SiteError", "children_of", "free_port"]

STOP_SECONDS = 60
# Longer than an upload takes under load, and shorter than a device waits for its answer.
GRACEFUL_SECONDS = 20


class Site:
    """A PostgreSQL and a service that exist as long as this context. For the main thread."""

    def __init__(
        self,
        folder: Path,
        *,
        workers: int,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.postgres = LocalPostgres(folder)
        self._settings = {
            "ADMIN_TOKEN": generate_token(),
            "WORKERS": str(workers),
            "GUNICORN_CMD_ARGS": f"--graceful-timeout={GRACEFUL_SECONDS}",
        } | dict(environ or {})
        self._thawing: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Site:
        with ExitStack() as stack:
            stack.enter_context(self.postgres)
            self.database_url = self.postgres.url()
            with self.connect() as connection:
                list(migrations.apply(connection))
            self.service = ServiceProcess(self.folder, self.database_url, self._settings)
            stack.callback(self.service.kill)
            stack.callback(self.wait_for_thaw)
            self.service.start()
            self._parts = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._parts.close()

    def connect(self) -> Connection:
        return psycopg.connect(self.database_url, autocommit=True)

    def new_recorder(self) -> Recorder:
        """Register a device."""
        token, registered = generate_token(), NewDevice(uuid4(), uuid4(), uuid4())
        with self.connect() as connection:
            device = devices.create_device(connection, registered, token=token)
        return Recorder(device.device_id, device.point_id, device.register_id, token)

    @property
    def storage(self) -> Path:
        return self.service.storage

    @property
    def address(self) -> tuple[str, int]:
        return self.service.address

    @property
    def master(self) -> subprocess.Popen[bytes]:
        """gunicorn's master."""
        return self.service.running

    def environ(self) -> dict[str, str]:
        """Return the environment of the service, which is right for its commands too."""
        return self.service.environ()

    def workers(self) -> list[int]:
        """Return the process ids of gunicorn's server processes, of which there is at least one."""
        while not (pids := self.service.workers()):
            self.require_running()
            time.sleep(0.05)
        return pids

    def require_running(self) -> None:
        """Raise SiteError when a part of it ended by itself."""
        self.service.require_running()
        if self.postgres.process.poll() is not None:
            raise SiteError(f"PostgreSQL ended by itself; see {self.folder}/postgres.log")

    def start_service(self) -> None:
        """Start the service again, at the same address."""
        self.service.start()

    def wait_for_service_to_end(self, seconds: float = STOP_SECONDS) -> None:
        """Wait until the port can be bound again; kill what is still running after that time.

        Server processes whose master was killed finish their uploads before they end.
        """
        deadline = time.monotonic() + seconds
        with suppress(subprocess.TimeoutExpired):
            self.master.wait(seconds)
        while self.master.poll() is None or not can_bind(self.address):
            if time.monotonic() > deadline:
                self.kill_service()
            time.sleep(0.05)

    def kill_service(self) -> None:
        """End the master and all server processes at once."""
        self.service.kill()

    def freeze(self, pids: Sequence[int], seconds: float) -> None:
        """Stop these processes for a while. They continue by themselves, in the background."""
        # A process of its own, so that they continue even if this one is killed meanwhile.
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
        """Stop every process of the service and of PostgreSQL meanwhile."""
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
