"""Maintains stored files: `fsck` sets them aside and puts them back, `prune` removes them, both and
backups lock them. Storing a file is in `storage.py`."""

import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from time import time

from ingest_api.errors import StorageUnavailable
from ingest_api.models.chunks import ChunkFile
from ingest_api.storage.base import StoredFile
from ingest_api.storage.disk.errors import disk_errors
from ingest_api.storage.disk.files import NO_SUCH_FILE, DiskFiles
from ingest_api.storage.disk.folders import (
    REMOVED_AGE,
    Folders,
    remove_empty_folders,
    sync_path,
)
from ingest_api.storage.layout import INCOMING, LOCK, LOST_AND_FOUND, RECORDINGS, StoredPath


class DiskUpkeep(DiskFiles):
    """The files below `root`. StorageUnavailable when the disk fails as a whole."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._folders = Folders(self.root)
        self._aside = f"{LOST_AND_FOUND}/{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"

    @contextmanager
    def locked(self, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the lock for removing or moving files, or for relying on them to stay; it ends with
        the process. While another process holds it: StorageUnavailable; or, with `waiting`, call
        that and wait."""
        descriptor = self._open_lock()
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting is None:
                    raise StorageUnavailable(
                        "Another prune, fsck --repair or backup is running"
                    ) from None
                waiting()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def temporary_files(self) -> Iterator[StoredFile]:
        """Yield the files that are still arriving, or were when a process died."""
        yield from self.list(INCOMING)

    @disk_errors
    def remove_temporary_file(self, path: StoredPath) -> None:
        """Remove a file that no upload is writing any more."""
        (self.root / path).unlink(missing_ok=True)

    @disk_errors
    def set_aside(self, path: StoredPath, *, grace: float) -> StoredPath | None:
        """Move a file into .lost+found and return its path there; None when it was written in the
        last `grace` seconds, or is gone.

        An upload may store the file anew at any time. So its age is checked where no upload can
        reach it any more, and a fresh file is put back.
        """
        source, target = self.root / path, self.root / self._aside / path
        self._ensure(target.parent)
        try:
            source.rename(target)
        except FileNotFoundError:
            return None
        if time() - target.lstat().st_mtime <= grace and self._move_back(target, source):
            return None
        return StoredPath(f"{self._aside}/{path}")

    @disk_errors
    def put_back(self, row: ChunkFile) -> StoredPath | None:
        """Move a row's file from .lost+found back to its place; return where it was, or None."""
        path = self.path_of(row)
        for run in sorted((self.root / LOST_AND_FOUND).glob("*")):
            found = run / path
            if found.is_file() and found.stat().st_size == row.file_size_bytes:
                name = StoredPath(str(found.relative_to(self.root)))
                good = row.sha256 in {None, self.sha256(name)}
                if good and self._move_back(found, self.root / path):
                    return name
        return None

    @disk_errors
    def bring_back(self, aside: StoredPath, path: StoredPath) -> bool:
        """Move a file from .lost+found to its place. Return False if that is taken."""
        source, target = self.root / aside, self.root / path
        self._ensure(target.parent)
        try:
            os.link(source, target)
        except FileExistsError:
            return False
        sync_path(target.parent)
        source.unlink()
        return True

    @disk_errors
    def settle(self, path: StoredPath, recorded_at: datetime) -> None:
        """Make a file that is in its place survive a power cut."""
        file = self.root / path
        sync_path(file)
        self._folders.settle(file.parent, recorded_at)
        sync_path(file.parent)

    def remove(self, recordings: Mapping[StoredPath, datetime]) -> dict[StoredPath, str]:
        """Remove files, given by path and time of recording; return the paths that failed, and why.

        Also removes emptied folders that no process remembers (REMOVED_AGE). A missing file, or a
        path that is no file, is no failure. The last folder is synced, and with it, on a journaling
        file system, everything done before.
        """
        failures: dict[StoredPath, str] = {}
        folder = self.root
        for path, recorded_at in recordings.items():
            try:
                folder = self._remove(path, recorded_at)
            except OSError as error:
                failures[path] = str(error)
        self._sync(folder)
        return failures

    @disk_errors
    def _open_lock(self) -> int:
        """Open the file that is locked. It is closed to all but its owner: who can open a file can
        lock it, and workers can open the folder."""
        flags = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.root / LOCK, flags, 0o600)
        if os.geteuid() == 0:  # a command by root must not keep out those by the service's user
            os.fchown(descriptor, self.root.stat().st_uid, -1)
        return descriptor

    @disk_errors
    def _sync(self, folder: Path) -> None:
        sync_path(folder if folder.is_dir() else self.root)

    def _remove(self, path: StoredPath, recorded_at: datetime) -> Path:
        """Remove a file, and folders left empty; return the folder that remains."""
        file = self.root / path
        try:
            file.unlink()
        except OSError as error:
            if error.errno not in NO_SUCH_FILE and not file.is_dir():
                raise
        if datetime.now(UTC) - recorded_at > REMOVED_AGE:
            return remove_empty_folders(file.parent, up_to={self.root, self.root / RECORDINGS})
        return file.parent

    def _move_back(self, source: Path, target: Path) -> bool:
        """Make the new name durable before the old one goes. Return False if something other than a
        file has the new name."""
        self._ensure(target.parent)
        with suppress(FileExistsError):  # then an upload has stored it
            os.link(source, target)
        if not stat.S_ISREG(target.lstat().st_mode):
            return False
        sync_path(target.parent)
        source.unlink()
        return True

    def _ensure(self, folder: Path) -> None:
        self._folders.ensure(folder, datetime.now(UTC))
