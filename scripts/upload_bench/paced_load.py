"""The program that makes the load of the paced and the memory benchmark: one process, one thread,
a connection a device. It takes its work from a file and tells what came of it, a line of JSON each:

    {"begins": true}                                  the first upload is due in a moment
    {"sent": 1670, "open": 1669, "errors": 0}         every few seconds
    {"took": [...], "late": [...], "errors": {...}}   the end; the connections stay open until
                                                      standard input is closed

    PYTHONPATH=scripts python -m upload_bench.paced_load FILE

Who starts it, and what the figures are worth, does not belong here.
"""

from __future__ import annotations

import gc
import json
import mmap
import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from lab.recorder import TIMEOUT_SECONDS, Recorder

from upload_bench.paced_connection import ACCEPTED, DeviceConnection, Poller

READY_SECONDS = 0.3
SHOW_SECONDS = 10.0
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Job:
    """What is to be sent. The recorders take turns."""

    address: tuple[str, int]
    recorders: list[tuple[str, str, str, str]]  # the fields of Recorder
    sound: str  # a file
    uploads: int
    rate: float  # uploads a second; 0: all are due at once, so each device sends one by one


class PacedLoad:
    """Begins each upload when it is due, and notes how long after that it was answered."""

    def __init__(self, job: Job, sound: memoryview) -> None:
        self._job = job
        self._poller = Poller(job.address)
        self._devices = [
            DeviceConnection(_recorder(fields), sound, self._poller, self._note)
            for fields in job.recorders
        ]
        self._begun = 0
        self._open_uploads = 0
        self._moved = 0.0  # when anything was begun or answered
        self.took: list[float | None] = [None] * job.uploads  # seconds; None: not accepted
        self.late: list[float] = []  # seconds after it was due that each was begun
        self.errors: Counter[str] = Counter()
        self.seconds = 0.0  # from the first to the last answer

    @property
    def connected(self) -> int:
        """How many connections were made."""
        return self._poller.connected

    @property
    def open(self) -> int:
        """How many there are."""
        return sum(device.is_open for device in self._devices)

    def run(self) -> None:
        self._first = time.monotonic() + READY_SECONDS
        # What is uploaded when it is due was recorded in the minute before.
        self._first_start = datetime.now(UTC) - MINUTE
        show = self._first + SHOW_SECONDS
        while self._begun < self._job.uploads or self._may_be_answered():
            self._begin_what_is_due()
            self._poller.wait(self._pause())
            if time.monotonic() >= show:
                show += SHOW_SECONDS
                _tell({"sent": self._begun, "open": self.open, "errors": self.errors.total()})
        for device in self._devices:
            device.give_up("TimeoutError")
        self.seconds = time.monotonic() - self._first

    def _may_be_answered(self) -> bool:
        """As long as any answer came of late, so may the others."""
        return self._open_uploads > 0 and time.monotonic() < self._moved + TIMEOUT_SECONDS

    def _due(self, number: int) -> float:
        return self._first + (number / self._job.rate if self._job.rate else 0.0)

    def _pause(self) -> float:
        """Till the next one is due; without any, till somebody might look."""
        if self._begun == self._job.uploads:
            return 0.1
        return min(0.1, self._due(self._begun) - time.monotonic())

    def _begin_what_is_due(self) -> None:
        while self._begun < self._job.uploads and self._due(self._begun) <= time.monotonic():
            number = self._begun
            turn, place = divmod(number, len(self._devices))
            start_ts = self._first_start + turn * MINUTE
            if self._job.rate:
                start_ts = self._first_start + timedelta(seconds=number / self._job.rate)
            self.late.append(time.monotonic() - self._due(number))
            self._begun += 1
            self._moved = time.monotonic()
            self._open_uploads += 1
            self._devices[place].upload(number, start_ts)

    def _note(self, number: int, outcome: str) -> None:
        self._open_uploads -= 1
        self._moved = time.monotonic()
        if outcome == ACCEPTED:
            self.took[number] = time.monotonic() - self._due(number)
        else:
            self.errors[outcome] += 1


def _recorder(fields: tuple[str, str, str, str]) -> Recorder:
    device_id, point_id, register_id, token = fields
    return Recorder(UUID(device_id), UUID(point_id), UUID(register_id), token)


def _tell(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)


def main() -> None:
    """Send, tell, hold the connections."""
    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    job = Job(**vars(job) | {"address": tuple(job.address)})
    with Path(job.sound).open("rb") as file:
        sound = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    load = PacedLoad(job, sound)
    _raise_descriptor_limit()
    gc.disable()  # a pause would be counted as the service's
    _tell({"begins": True})
    load.run()
    _tell(
        {
            "took": load.took,
            "late": load.late,
            "errors": load.errors,
            "connected": load.connected,
            "open": load.open,
            "seconds": load.seconds,
        }
    )
    sys.stdin.read()


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
