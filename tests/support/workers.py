"""What the tests of `scripts/example-worker` share: the worker as a process."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from support.leases import row
from support.processes import eventually
from support.recorder import SPEECH, Recorder
from support.service import INTERNAL_TOKEN, Service, clean_environ

SCRIPTS = Path(__file__).parents[2] / "scripts"
EXAMPLE = SCRIPTS / "example_worker"
SLOW = Path(__file__).with_name("slow_example_worker.py")


class Worker:
    """A worker as a process. A slow one begins its work, and ends it when it is let go."""

    def __init__(self, folder: Path, url: str, *arguments: str, program: Path, **environ: str):
        self.out, self.err, self._go = folder / "out", folder / "err", folder / "go"
        folder.mkdir()
        settings = {"INTERNAL_TOKEN": INTERNAL_TOKEN, "GO": str(self._go)}
        settings |= {"PYTHONPATH": str(SCRIPTS)} | environ
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, *_how_to_run(program), "--url", url, *arguments],
                env=clean_environ(**settings),
                stdout=out,
                stderr=err,
            )

    def lines(self) -> list[str]:
        return self.out.read_text().splitlines()

    def has_begun(self) -> str:
        """Wait until it works on a chunk, and return which."""
        return eventually(lambda: re.search(r"(\S+) begun", self.out.read_text())).group(1)

    def go(self) -> None:
        self._go.touch()

    def complaint(self, phrase: str, seconds: float = 10) -> str:
        """Wait until it complains of that."""
        assert eventually(lambda: phrase in self.err.read_text(), seconds)
        return self.err.read_text()

    def end(self, seconds: float = 20) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(self.out.read_text() + self.err.read_text()) from None


def _how_to_run(program: Path) -> list[str]:
    """Run a package by its name, a file by its path."""
    return ["-m", program.name] if program.is_dir() else [str(program)]


Start = Callable[..., Worker]


def upload(service: Service, recorder: Recorder, count: int = 1, data: bytes = SPEECH) -> list[str]:
    """A chunk for each minute after nine; their ids, the oldest first."""
    ids = []
    for number in range(count):
        start_ts, end_ts = (f"2026-01-28T09:{number + more:02}:00Z" for more in (0, 1))
        answer = service.upload(recorder, data, start_ts=start_ts, end_ts=end_ts)
        assert answer.status_code == 200, answer.text
        ids.append(answer.json()["chunk_id"])
    return ids


def status(service: Service, chunk_id: str) -> str:
    return row(service, chunk_id)["status"]
