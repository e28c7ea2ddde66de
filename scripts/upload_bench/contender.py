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
        """Look what the round has left, and remove it; what is not as it should be."""
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


def remove_files(folder: Path) -> int:
    """Remove the files below a folder, but not the folders: a device goes on in the same hour. How
    many there were."""
    count = 0
    for place, _, names in os.walk(folder):
        for name in names:
            Path(place, name).unlink()
        count += len(names)
    return count
