"""Folders: created when missing, durable before their files are relied on, removed when empty."""

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
REMEMBERED_AGE, for up to REMEMBERED_SECONDS. Retention removes empty folders only of recordings
older than REMOVED_AGE, so never one that a process remembers: another process might have created it
anew, but not synced it yet. Operators must not remove any by hand (deploy/README.md)."""


class Folders:
    """The folders below `root`. Never creates `root` itself: its disk may be unmounted, and
    recordings must not go to the disk below."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._durable: set[str] = set()
        self._remembered_until = 0.0

    def make(self, folder: Path) -> None:
        """Create a folder that was found missing, and its parents. OSError; FileNotFoundError also
        when one is removed meanwhile."""
        if str(folder) in self._durable:
            self.forget()
        if folder.parent != self._root and not folder.parent.is_dir():
            self.make(folder.parent)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        reached(Failpoint.FOLDER_MADE)

    def settle(self, folder: Path, recorded_at: datetime) -> None:
        """Sync the entries of the folders above `folder`, unless they are known to be durable.

        Another process may have created one a moment ago but not synced it yet. OSError.
        """
        self._settle(folder, self._known(recorded_at))

    def ensure(self, folder: Path, recorded_at: datetime) -> None:
        """Create `folder` if it is missing, and make it survive a power cut. OSError."""
        if not folder.is_dir():
            self.make(folder)
        self.settle(folder, recorded_at)

    def forget(self) -> None:
        """Forget which folders are durable: one was removed, and perhaps others with it."""
        self._durable.clear()  # also for a thread within `settle`

    def _known(self, recorded_at: datetime) -> set[str]:
        """Return the folders that need no sync for a recording of that time; `settle` adds some."""
        if datetime.now(UTC) - recorded_at > REMEMBERED_AGE:
            return set()
        if monotonic() > self._remembered_until or len(self._durable) >= REMEMBERED_FOLDERS:
            self._durable = set()
            self._remembered_until = monotonic() + REMEMBERED_SECONDS
        return self._durable

    def _settle(self, folder: Path, durable: set[str]) -> None:
        if folder != self._root and str(folder) not in durable:
            self._settle(folder.parent, durable)
            sync_path(folder.parent)
            durable.add(str(folder))


def sync_path(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power cut. OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_empty_folders(folder: Path, *, up_to: set[Path]) -> Path:
    """Remove `folder` and its parents while they are empty, but none of `up_to`; return the first
    that remains."""
    while folder not in up_to:
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            break  # not empty
        folder = folder.parent
    return folder
