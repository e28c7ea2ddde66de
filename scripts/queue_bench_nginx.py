"""An nginx of the benchmark's own, which serves a folder: what files from this disk cost without
the service. A configuration to learn from is in deploy/, not here.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local_site import HOST, SiteError, children_of, free_port
from postgres_programs import die_with_parent

START_SECONDS = 10
# `user`: as root nginx would become another user, who cannot look into the folder.
CONFIGURATION = """
{user}
daemon off;
worker_processes auto;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    default_type application/octet-stream;
    server {{
        listen {host}:{port};
        root {root};
    }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """One that runs."""

    address: tuple[str, int]
    master: int  # its process id

    def pids(self) -> list[int]:
        """The master's and the workers'."""
        return [self.master, *children_of(self.master)]


def find_nginx() -> str | None:
    """The program, which Debian keeps where not every user looks."""
    path = os.environ.get("PATH", os.defpath)
    return shutil.which("nginx", path=f"{path}{os.pathsep}/usr/sbin")


@contextmanager
def serving(root: Path, folder: Path) -> Iterator[Nginx | None]:
    """It serves what is below `root` meanwhile, and has its own files in `folder`; None where
    nginx is not installed. For the main thread, with which it dies. SiteError."""
    program = find_nginx()
    if program is None:
        yield None
        return
    port = free_port()
    process = _start(program, root, folder, port)
    try:
        _wait_for(port, process)
        yield Nginx((HOST, port), process.pid)
    finally:
        process.terminate()
        process.wait()


def _start(program: str, root: Path, folder: Path, port: int) -> subprocess.Popen[bytes]:
    file = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    file.write_text(CONFIGURATION.format(user=user, folder=folder, root=root, host=HOST, port=port))
    return subprocess.Popen(
        [program, "-p", str(folder), "-e", str(folder / "nginx.log"), "-c", str(file)],
        start_new_session=True,  # Ctrl-C is for the benchmark
        # SIGTERM, so that the master ends its workers too.
        preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509  it takes no lock
    )


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.05)
    raise SiteError("nginx does not answer")
