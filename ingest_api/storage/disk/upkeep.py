"""The files that are stored already: read, for workers; looked at, set aside and removed, for
`flask ingest fsck` and `prune`. How a file comes to be stored is `storage.py`'s business.

Paths are those of the column `file_path`: relative to AUDIO_STORAGE_DIR, as this service writes
them, or perhaps spelled otherwise in rows of the earlier one. ValueError for one that leads out of
the folder.
"""

import fcntl
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from ingest_api.errors import StorageUnavailable
from ingest_api.models.retention import ChunkFile, PrunedChunk
from ingest_api.storage.disk.errors import disk_errors
from ingest_api.storage.disk.files import _NO_SUCH_FILE, DiskFiles
from ingest_api.storage.disk.folders import REMOVED_AGE, Folders, sync_folder
from ingest_api.storage.layout import INCOMING, LOST_AND_FOUND, RECORDINGS


class StoredFiles(DiskFiles):
    """What is below AUDIO_STORAGE_DIR. StorageUnavailable when the disk fails as a whole."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.unreadable: dict[str, str] = {}  # folders, and why; what `recordings` went past
        self._folders = Folders(self.root)
        self._aside = f"{LOST_AND_FOUND}/{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"

    @contextmanager
    def locked(self, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Be the only one who removes or moves files, or relies on their staying; the lock ends
        with the process. While another has it: StorageUnavailable, or wait, if `waiting` is there
        to say so."""
        with disk_errors():
            descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting is None:
                    raise StorageUnavailable(
                        "Another prune or fsck --repair is at work, or a backup"
                    ) from None
                waiting()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def recordings(self) -> Iterator[str]:
        """Every file there is, in no order. A symbolic link is an operator's work: it is neither
        followed nor taken for a file."""
        yield from self._walk(RECORDINGS)

    def temporary_files(self) -> Iterator[str]:
        """Files that are still arriving, or were when a process died."""
        yield from self._walk(INCOMING)

    @disk_errors()
    def is_older_than(self, file_path: str, seconds: float) -> bool:
        """Whether it was written that long ago; False when it is gone."""
        with suppress(FileNotFoundError):
            return _age(self.root / file_path) > seconds
        return False

    @disk_errors()
    def remove_temporary_file(self, file_path: str) -> None:
        """One that nobody writes any more."""
        (self.root / file_path).unlink(missing_ok=True)

    @disk_errors()
    def set_aside(self, file_path: str, *, grace: float) -> str | None:
        """Move a file into .lost+found and return its path there; None when it has been written
        in the last `grace` seconds, or is gone.

        An upload may put the file there anew at any time, so its age is looked at where no upload
        can reach it any more, and a fresh one is put back.
        """
        source, target = self.root / file_path, self.root / self._aside / file_path
        self._make(target.parent)
        try:
            source.rename(target)
        except FileNotFoundError:
            return None
        if _age(target) <= grace and self._move_back(target, source):
            return None
        return f"{self._aside}/{file_path}"

    @disk_errors()
    def put_back(self, row: ChunkFile) -> str | None:
        """Find a row's file in .lost+found and return it to its place; where it was, or None."""
        file_path = self.canonical(row.file_path)
        for run in sorted((self.root / LOST_AND_FOUND).glob("*")):
            found = run / file_path
            if found.is_file() and found.stat().st_size == row.file_size_bytes:
                name = str(found.relative_to(self.root))
                good = row.sha256 in {None, self.sha256(name)}
                if good and self._move_back(found, self.root / file_path):
                    return name
        return None

    def remove(self, chunks: Iterable[PrunedChunk]) -> dict[str, str]:
        """Remove files, and the folders that this leaves empty and nobody remembers (see
        REMOVED_AGE in `folders.py`); the paths that could not be removed, and why. One that is
        gone already, or is no file, is no failure.

        The last folder is synced, and with it, on a file system that keeps a journal, what was
        done before.
        """
        failures: dict[str, str] = {}
        folder = self.root
        for chunk in chunks:
            try:
                folder = self._remove(chunk)
            except (OSError, ValueError) as error:
                failures[chunk.file_path] = str(error)
        with disk_errors():
            sync_folder(folder if folder.is_dir() else self.root)
        return failures

    def _remove(self, chunk: PrunedChunk) -> Path:
        """The folder in which something was removed."""
        path = self._path(chunk.file_path)
        try:
            path.unlink()
        except OSError as error:
            if error.errno not in _NO_SUCH_FILE and not path.is_dir():
                raise
        if datetime.now(UTC) - chunk.start_ts > REMOVED_AGE:
            return self._remove_empty_folders(path.parent)
        return path.parent

    def _remove_empty_folders(self, folder: Path) -> Path:
        """From `folder` upwards; the first that remains."""
        while folder not in {self.root, self.root / RECORDINGS}:
            try:
                folder.rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                break  # not empty
            folder = folder.parent
        return folder

    def _walk(self, top: str) -> Iterator[str]:
        folders = [top]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(self.root / folder) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(f"{folder}/{entry.name}")
                        elif not entry.is_symlink():
                            yield f"{folder}/{entry.name}"
            except FileNotFoundError:
                pass  # retention removes empty ones
            except OSError as error:
                self.unreadable[folder] = error.strerror or str(error)

    def _move_back(self, source: Path, target: Path) -> bool:
        """The new name is durable before the old one goes. False when something has it that is no
        file."""
        self._make(target.parent)
        with suppress(FileExistsError):  # then an upload has brought it
            os.link(source, target)
        if not stat.S_ISREG(target.lstat().st_mode):
            return False
        sync_folder(target.parent)
        source.unlink()
        return True

    def _make(self, folder: Path) -> None:
        """Durably, with all above it."""
        durable = self._folders.durable(datetime.now(UTC))
        if not folder.is_dir():
            self._folders.make(folder, durable)
        self._folders.settle(folder, durable)


def _age(path: Path) -> float:
    """In seconds, since it was written."""
    return datetime.now(UTC).timestamp() - path.lstat().st_mtime
