"""The service itself, as one of those who take part: gunicorn as in production, and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench_tools.machine import service_cpu
from lab.recorder import Recorder
from lab.service import Site

from upload_bench.contender import HttpLoad, empty_files
from upload_bench.load import Round, UploadLoad
from upload_bench.rows import Rows


class Service(HttpLoad):
    """It runs as long as its site."""

    def __init__(
        self, site: Site, recorders: Sequence[Recorder], folder: Path, connections: int
    ) -> None:
        super().__init__(UploadLoad(site.address, recorders, folder), connections)
        self._site = site
        self._rows = Rows(site, recorders)

    def pids(self) -> list[int]:
        return [self._site.master.pid, *self._site.workers()]

    def cpu(self) -> float:
        return service_cpu(self._site)

    def clear(self, came: Round) -> Iterator[str]:
        yield from self.wrong("rows", self._rows.new(), came)
        yield from self.wrong("files", empty_files(self._site.storage), came)
