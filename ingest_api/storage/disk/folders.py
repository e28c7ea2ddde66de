"""The folders that files are in: made when they are missing, and durable before anybody relies on
what is in them.

What is in them, and where they are, is not this module's business.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

from ingest_api.failpoints import Failpoint, reached

FOLDER_MODE = 0o750

REMEMBERED_FOLDERS = 50_000  # about 10 MB
REMEMBERED_SECONDS = 3600.0
REMEMBERED_AGE = timedelta(days=2)
REMOVED_AGE = timedelta(days=3)
"""A process remembers which folders it found durable: those for recordings younger than
REMEMBERED_AGE, for up to REMEMBERED_SECONDS. Retention takes away empty folders only of recordings
older than REMOVED_AGE, so never one that any process remembers: another process might be making it
anew, and not have come to its sync yet. (Operators must not do so by hand, says the README.)"""


class Folders:
    """Those below a `root`, which is never made: a disk may have gone, and what is meant for it
    must not go to the one below it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._durable: set[str] = set()
        self._remembered_until = 0.0

    def durable(self, recorded_at: datetime) -> set[str]:
        """The folders whose entries, and of all above them, need not be synced for a recording of
        that time; `settle` adds to them."""
        if datetime.now(UTC) - recorded_at > REMEMBERED_AGE:
            return set()
        expired = monotonic() > self._remembered_until
        if expired or len(self._durable) >= REMEMBERED_FOLDERS:
            self._durable = set()
            self._remembered_until = monotonic() + REMEMBERED_SECONDS
        return self._durable

    def make(self, folder: Path, durable: set[str]) -> None:
        """Make one that was found missing, and those that are missing above it. OSError;
        FileNotFoundError also when somebody removes one meanwhile."""
        if str(folder) in durable:
            durable.clear()  # it has been removed, and perhaps others with it
        if folder.parent != self._root and not folder.parent.is_dir():
            self.make(folder.parent, durable)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        reached(Failpoint.FOLDER_MADE)

    def settle(self, folder: Path, durable: set[str]) -> None:
        """Sync the entries of `folder` and of those above it, unless `durable`: another process may
        have made one a moment ago and not have come to its sync yet. OSError."""
        if folder != self._root and str(folder) not in durable:
            self.settle(folder.parent, durable)
            sync_folder(folder.parent)
            durable.add(str(folder))


def sync_folder(folder: Path) -> None:
    """Return when the names in `folder` would survive a power cut. OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
