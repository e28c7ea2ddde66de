"""nginx, which takes the same files by WebDAV: it writes them and renames them, without a sync and
without a row. What a plain web server makes of the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench_tools.machine import cpu_seconds
from bench_tools.nginx import Nginx, find_nginx, serving, takes_uploads
from lab.recorder import Recorder

from upload_bench.contender import HttpLoad, empty_files
from upload_bench.load import Load, Round
from upload_bench.requests import puts

CREATED = (201,)


class WebDav(HttpLoad):
    """It runs as long as its nginx."""

    def __init__(
        self, nginx: Nginx, recorders: Sequence[Recorder], folder: Path, connections: int
    ) -> None:
        load = Load(nginx.address, puts(recorders, "", CREATED), folder)
        super().__init__(load, connections)
        self._nginx = nginx
        self._root = folder / "files"

    def pids(self) -> list[int]:
        return self._nginx.pids()

    def cpu(self) -> float:
        return cpu_seconds(self.pids())

    def clear(self, came: Round) -> Iterator[str]:
        yield from self.wrong("files", empty_files(self._root), came)


@contextmanager
def webdav(
    recorders: Sequence[Recorder], folder: Path, connections: int
) -> Iterator[WebDav | None]:
    """An nginx of its own in `folder`; None where there is none that takes files. SiteError."""
    program = find_nginx()
    if program is None or not takes_uploads(program):
        yield None
        return
    root = folder / "files"
    root.mkdir(parents=True)
    with serving(root, folder, uploads=True) as nginx:
        yield WebDav(nginx, recorders, folder, connections) if nginx else None
