"""How many rows of its own each round of a contender has left. Whether that is right is not known
here."""

from __future__ import annotations

from collections.abc import Sequence

from lab.recorder import Recorder
from lab.service import Site


class Rows:
    """The rows of these recorders' chunks."""

    def __init__(self, site: Site, recorders: Sequence[Recorder]) -> None:
        self._site = site
        self._devices = [who.device_id for who in recorders]
        self._known = 0

    def new(self) -> int:
        """How many there are more than the last time."""
        count = "SELECT count(*) FROM audio_chunks WHERE device_id = ANY(%s)"
        with self._site.connect() as connection:
            row = connection.execute(count, [self._devices]).fetchone() or (0,)
        new = int(row[0]) - self._known
        self._known += new
        return new
