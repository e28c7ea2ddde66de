"""Who takes part side by side: what each of them has to be able to do.

When whose turn it is, and what the numbers say, does not belong here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from upload_bench.load import Load, Round


class Contender(Protocol):
    """One of them, running."""

    def send(self, seconds: float) -> Round:
        """One round of uploads."""
        ...

    def pids(self) -> list[int]:
        """Its processes, without PostgreSQL's and the load's."""
        ...

    def cpu(self) -> float:
        """Seconds of processor time that those have used so far."""
        ...

    def clear(self, came: Round) -> Iterator[str]:
        """Look what the round has left, and make room; what is not as it should be."""
        ...


@dataclass(frozen=True)
class HttpLoad:
    """The load of those that are reached over HTTP."""

    load: Load
    connections: int

    def send(self, seconds: float) -> Round:
        return self.load.send(connections=self.connections, seconds=seconds)

    def wrong(self, what: str, stored: int, came: Round) -> Iterator[str]:
        """Each upload that was accepted must have been stored once; of those that were under way
        when the round ended, as many as there are connections may have been stored as well."""
        most = came.uploads + came.errors + self.connections
        if not came.uploads <= stored <= most:
            yield f"{what}: {stored} for {came.uploads} accepted uploads"


def empty_files(folder: Path) -> int:
    """Give back the room of the files below a folder. How many there were that had something in
    them.

    They are not removed: ext4 passes over the inodes of files that were removed in the last five
    minutes one by one (`recently_deleted` in fs/ext4/ialloc.c), and a new file among ten thousand
    of those costs more than the rest of an upload.
    """
    count = 0
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if path.stat().st_size:
                os.truncate(path, 0)
                count += 1
    return count
