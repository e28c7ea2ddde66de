"""An nginx of a benchmark's own, which serves a folder and takes uploads into it: what files cost
without the service. A configuration to learn from is in deploy/, not here.
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

from lab.service import HOST, SiteError, children_of, free_port

from bench_tools.programs import start

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
    client_max_body_size 16m;
    keepalive_requests 1000000;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    default_type application/octet-stream;
    server {{
        listen {host}:{port};
        root {root};
        {more}
    }}
}}
"""
UPLOADS = "dav_methods PUT; create_full_put_path on; dav_access user:rw group:r;"


@dataclass(frozen=True)
class Nginx:
    """One that runs."""

    address: tuple[str, int]
    master: int  # its process id

    def pids(self) -> list[int]:
        """The master's and the workers'."""
        return [self.master, *children_of(self.master)]


def find_nginx() -> str | None:
    """The program, which Debian keeps where not every user looks: in the sbin beside a bin."""
    places = [Path(place) for place in os.environ.get("PATH", os.defpath).split(os.pathsep)]
    places += [place.with_name("sbin") for place in places if place.name == "bin"]
    return shutil.which("nginx", path=os.pathsep.join(map(str, places)))


def takes_uploads(program: str) -> bool:
    """Whether this nginx was built with the module for WebDAV."""
    said = subprocess.run([program, "-V"], capture_output=True, text=True, check=False)
    return "http_dav_module" in said.stderr


@contextmanager
def serving(root: Path, folder: Path, *, uploads: bool = False) -> Iterator[Nginx | None]:
    """It serves what is below `root` meanwhile, and has its own files in `folder`; None where
    nginx is not installed. With `uploads` it takes files by PUT (WebDAV), and renames each to its
    place when all of it is there: both folders must be on one file system. For the main thread,
    with which it dies. SiteError."""
    program = find_nginx()
    if program is None:
        yield None
        return
    port = free_port()
    process = _start(program, _configure(root, folder, port, UPLOADS if uploads else ""))
    try:
        _wait_for(port, process)
        yield Nginx((HOST, port), process.pid)
    finally:
        process.terminate()
        process.wait()


def _configure(root: Path, folder: Path, port: int, more: str) -> Path:
    file = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    places = {"folder": folder, "root": root, "host": HOST, "port": port}
    file.write_text(CONFIGURATION.format(user=user, more=more, **places))
    return file


def _start(program: str, file: Path) -> subprocess.Popen[bytes]:
    folder = file.parent
    command = [program, "-p", str(folder), "-e", str(folder / "nginx.log"), "-c", str(file)]
    return start(command, ending=signal.SIGTERM)  # at which the master ends its workers too


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.05)
    raise SiteError("nginx does not answer")
