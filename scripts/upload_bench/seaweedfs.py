"""SeaweedFS, an object store for very many small files, which takes the same files by S3's PUT:
`weed mini`, all of it in one process. It writes without a sync; instead of a row it has the entry
of its own filer.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from bench_tools.machine import cpu_seconds
from bench_tools.programs import start
from lab.recorder import Recorder
from lab.service import HOST, SiteError, free_port
from soak_load import SPEECH

from upload_bench.contender import HttpLoad
from upload_bench.load import Load, Round
from upload_bench.requests import puts

START_SECONDS = 30
BUCKET = "/chunks"
# Each part wants a port for HTTP and one for gRPC.
PARTS = ("master", "volume", "filer", "s3", "admin")
OPTIONS = (
    *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-admin.ui=false"),
    *("-s3.autoCreateBucket=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
)
# With credentials in the environment it would want signed requests.
ANONYMOUS = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "S3_BUCKET": ""}


class SeaweedFs(HttpLoad):
    """It runs as long as its process."""

    def __init__(
        self,
        address: tuple[str, int],
        process: subprocess.Popen[bytes],
        load: Load,
        connections: int,
    ) -> None:
        super().__init__(load, connections)
        self._address = address
        self._process = process

    def pids(self) -> list[int]:
        return [self._process.pid]

    def cpu(self) -> float:
        return cpu_seconds(self.pids())

    def clear(self, came: Round) -> Iterator[str]:
        """Remove the bucket, because only then are its files gone. (How many there were, only a
        walk through its filer would tell.)"""
        del came
        self.prepare()
        yield from ()

    def prepare(self) -> None:
        """A new bucket that takes files: the first one waits for its volume to be made."""
        deadline = time.monotonic() + START_SECONDS
        # An upload that was under way at the end of the round may make the old one anew.
        while self._ask("DELETE", BUCKET) != 404 or self._ask("PUT", BUCKET) != 200:
            if time.monotonic() > deadline:
                raise SiteError("seaweedfs does not remove its bucket")
            time.sleep(0.1)
        if self._ask("PUT", f"{BUCKET}/first.ogg", SPEECH.read_bytes()) != 200:
            raise SiteError("seaweedfs takes no file")

    def _ask(self, method: str, path: str, body: bytes | None = None) -> int:
        connection = HTTPConnection(*self._address, timeout=START_SECONDS)
        connection.request(method, path, body)
        status = connection.getresponse().status
        connection.close()
        return status


def find_weed() -> str | None:
    """The program: beside this Python, where pip puts it, or in PATH."""
    here = str(Path(sys.executable).parent)
    return shutil.which("weed", path=os.pathsep.join((here, os.environ.get("PATH", os.defpath))))


@contextmanager
def seaweedfs(
    recorders: Sequence[Recorder], folder: Path, connections: int
) -> Iterator[SeaweedFs | None]:
    """One of its own in `folder`; None where it is not installed. SiteError."""
    program = find_weed()
    if program is None:
        yield None
        return
    (folder / "data").mkdir(parents=True)
    ports = {part: (free_port(), free_port()) for part in PARTS}
    address = HOST, ports["s3"][0]
    with _running(program, folder, ports) as process:
        _wait_for(address, process)
        load = Load(address, puts(recorders, BUCKET, (200,)), folder)
        found = SeaweedFs(address, process, load, connections)
        found.prepare()
        yield found


@contextmanager
def _running(
    program: str, folder: Path, ports: dict[str, tuple[int, int]]
) -> Iterator[subprocess.Popen[bytes]]:
    command = [program, f"-logdir={folder}", "mini", f"-dir={folder / 'data'}", *OPTIONS]
    for part, (port, grpc) in ports.items():
        command += [f"-{part}.port={port}", f"-{part}.port.grpc={grpc}"]
    with (folder / "seaweedfs.log").open("wb") as log:
        process = start(
            command, environ=ANONYMOUS, ending=signal.SIGINT, cwd=folder, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.kill()  # its files are thrown away
        process.wait()
        # It knows no other place for these.
        for port in {port for both in ports.values() for port in both}:
            for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                socket.unlink(missing_ok=True)


def _wait_for(address: tuple[str, int], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        connection = HTTPConnection(*address, timeout=1)
        with suppress(OSError, HTTPException):
            connection.request("GET", "/")
            if connection.getresponse().status == 200:
                return
        connection.close()
        time.sleep(0.1)
    raise SiteError("seaweedfs does not answer")
