"""Starts the program `paced_load.py` beside the service, in a process of its own so that its
processor time is counted apart, and reads what it tells.

What is sent, and what it costs the service, does not belong here.
"""

from __future__ import annotations

import json
import resource
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from bench_tools.programs import python, start
from lab.recorder import Recorder
from lab.service import SiteError

from upload_bench.paced_load import Job

OTHER_DESCRIPTORS = 50  # that the program has open beside its connections


@dataclass(frozen=True)
class Sent:
    """What the program told at its end."""

    took: list[float | None]  # by upload: seconds from when it was due; None: not accepted
    late: list[float]  # by upload: seconds after it was due that it was begun
    errors: dict[str, int]
    connected: int  # connections made
    open: int  # connections at the end
    seconds: float

    @property
    def accepted(self) -> list[float]:
        return [seconds for seconds in self.took if seconds is not None]


class PacedProcess:
    """The program while it runs. Its connections stay open until the context ends."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self._process = process

    def begins(self) -> None:
        """Return just before the first upload is due."""
        self._next()

    def finish(self, show: Callable[[str], None]) -> Sent:
        """Wait until everything is answered; a line of progress now and then."""
        while "took" not in (document := self._next()):
            show("{sent} begun, {open} connections, {errors} errors".format_map(document))
        return Sent(**document)

    def _next(self) -> dict[str, Any]:
        output: IO[bytes] | None = self._process.stdout
        assert output
        line = output.readline()
        if not line:
            raise SiteError(f"the load ended by itself, status {self._process.wait()}")
        document: dict[str, Any] = json.loads(line)
        return document


def job(
    address: tuple[str, int],
    recorders: Sequence[Recorder],
    sound: Path,
    *,
    uploads: int,
    rate: float = 0.0,
) -> Job:
    """SiteError when this process may not open as many connections. `rate` 0: as Job.rate."""
    require_descriptors(len(recorders))
    fields = [
        (str(one.device_id), str(one.point_id), str(one.register_id), one.token)
        for one in recorders
    ]
    return Job(address, fields, str(sound), uploads, rate)


def require_descriptors(connections: int) -> None:
    """SiteError when the hard limit is too low. The programs raise the soft one by themselves."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < connections + OTHER_DESCRIPTORS:
        raise SiteError(
            f"{connections} devices need as many open files, but a process may have {hard} here"
            f" (ulimit -Hn): raise that, or use at most {hard - OTHER_DESCRIPTORS} devices"
        )


@contextmanager
def sending(job: Job, folder: Path) -> Iterator[PacedProcess]:
    """The program, which begins at once."""
    file = folder / "load.json"
    file.touch(mode=0o600)  # it has the tokens
    file.write_text(json.dumps(asdict(job)))
    command = python("upload_bench.paced_load", file)
    process = start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield PacedProcess(process)
    finally:
        process.kill()
        process.communicate()
