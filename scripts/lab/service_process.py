"""A real service: gunicorn in a folder and on a port of its own.

Its database is not started here, see `service.py`.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Self

from ingest_api.settings import Settings
from lab.postgres import die_with_parent

HOST = "127.0.0.1"
START_SECONDS = 30
_SETTINGS = {item.name.upper() for item in fields(Settings)}


class SiteError(Exception):
    """The service or its PostgreSQL cannot go on; the message says why."""


def clean_environ(**settings: str) -> dict[str, str]:
    """Return this process's environment with these settings of the service and no others."""
    secrets = {f"{name}_FILE" for name in _SETTINGS}
    kept = {k: v for k, v in os.environ.items() if k not in _SETTINGS | secrets}
    return kept | settings


class ServiceProcess:
    """A service on a given database. Start it in the main thread: it dies with the thread."""

    prefix: Sequence[str] = ()  # a command that runs it in other surroundings

    def __init__(
        self,
        folder: Path,
        database_url: str,
        settings: Mapping[str, str],
        *,
        python: str = sys.executable,  # of a checkout's .venv: decides which version runs
    ) -> None:
        self.folder = folder
        self.database_url = database_url
        self.storage = folder / "audio"
        self.log_path = folder / "service.log"
        self.port = free_port()
        self.address = HOST, self.port
        self.url = f"http://{HOST}:{self.port}"
        self.settings = {
            "DATABASE_URL": database_url,
            "AUDIO_STORAGE_DIR": str(self.storage),
            "HOST": HOST,
            "PORT": str(self.port),
        } | dict(settings)
        self.python = python
        self.process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def environ(self) -> dict[str, str]:
        """Return the environment of the service, which is right for its commands too."""
        return clean_environ(**self.settings)

    def start(self, *, wait: bool = True) -> Self:
        """Start it, and wait until all server processes are ready to accept connections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            self.process = subprocess.Popen(
                [*self.prefix, self.python, "-m", "ingest_api"],
                env=self.environ(),
                cwd=self.folder,  # without a .env
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the owner
                preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509  it takes no lock
            )
        if wait:
            self._wait_until_ready()
        return self

    def stop(self, seconds: float = 30) -> int:
        """Shut it down gracefully and return its exit status."""
        self.running.terminate()
        return self.running.wait(seconds)

    def kill(self) -> None:
        """End the master and all server processes at once, as a crash does."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def running(self) -> subprocess.Popen[bytes]:
        """gunicorn's master; SiteError before the first start."""
        if self.process is None:
            raise SiteError("the service is not running")
        return self.process

    def workers(self) -> list[int]:
        """Return the process ids of gunicorn's server processes."""
        return children_of(self.running.pid)

    def require_running(self) -> None:
        """Raise SiteError when the master ended by itself."""
        if self.running.poll() is not None:
            raise SiteError(
                f"gunicorn ended, status {self.running.returncode}; {self._last_words()}"
            )

    def _wait_until_ready(self) -> None:
        # gunicorn loses a SIGTERM that arrives while it forks, so one ready process is not enough.
        deadline = time.monotonic() + START_SECONDS
        wanted = int(self.settings.get("WORKERS", 1))
        while self._new_log().count("Worker ready") < wanted:
            self.require_running()
            if time.monotonic() > deadline:
                raise SiteError(f"not ready within {START_SECONDS} s; {self._last_words()}")
            time.sleep(0.05)

    def _new_log(self) -> str:
        return self.log_path.read_bytes()[self._log_start :].decode()

    def _last_words(self) -> str:
        return "\n".join([f"the end of {self.log_path}:", *self._new_log().splitlines()[-10:]])


def children_of(pid: int) -> list[int]:
    """Return the process ids of a process's children."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    return []


def free_port() -> int:
    """Return a free port below those that the kernel gives to clients.

    Otherwise a client that connects while the service is down may be given the service's own port.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = range(max(1024, lowest - 10_000), lowest)
    for port in random.sample(ports, len(ports)):
        if can_bind((HOST, port)):
            return port
    raise SiteError("no port is free")


def can_bind(address: tuple[str, int]) -> bool:
    """Return whether a service could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gunicorn does
        try:
            probe.bind(address)
        except OSError:
            return False
    return True
