"""Reads stored files: their paths, status and content."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from ingest_api.errors import StorageUnavailable
from ingest_api.storage.base import Content, FileStatus, StoredFile
from ingest_api.storage.disk.errors import disk_errors
from ingest_api.storage.disk.temporary import version_of
from ingest_api.storage.layout import (
    RECORDINGS,
    FileRow,
    StoredPath,
    is_foreign,
    path_of,
)

NO_SUCH_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


class DiskFiles:
    """The files below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.normpath(root))
        self.unreadable: dict[str, str] = {}  # paths that `list` could not read, and why

    def path_of(self, row: FileRow) -> StoredPath:
        """Return where a row's file is, or belongs."""
        return path_of(row, str(self.root))

    def is_foreign(self, row: FileRow) -> bool:
        """Return whether a row's path leads elsewhere than to its own file."""
        return is_foreign(row, str(self.root))

    def canonical(self, path: str) -> StoredPath:
        """Return a path that is no row's, such as a backup's, in this service's spelling.
        ValueError for one that leads out of the root."""
        full = os.path.normpath(f"{self.root}/{path}" if path[:1] != "/" else path)
        if not full.startswith(f"{self.root}/") or "\0" in full:
            raise ValueError(f"{path} is not below {self.root}")
        return StoredPath(full.removeprefix(f"{self.root}/"))

    def spellings(self, path: StoredPath) -> tuple[str, ...]:
        """Return every spelling of a path that a row may have."""
        return path, f"./{path}", f"{self.root}/{path}"

    @disk_errors
    def status(self, path: StoredPath) -> FileStatus | None:
        """Return the status of a file, or None when there is none. StorageUnavailable when the disk
        fails."""
        try:
            status = (self.root / path).stat()
        except OSError as error:
            if error.errno in NO_SUCH_FILE:
                return None
            raise
        return _status(status) if stat.S_ISREG(status.st_mode) else None

    def open(self, path: StoredPath) -> Content:
        """Open a file. FileNotFoundError; StorageUnavailable also when the folder of
        all recordings is missing: an unmounted disk has lost nothing."""
        try:
            file = open(self.root / path, "rb", opener=_open_at_once)  # noqa: SIM115
        except OSError as error:
            there = (self.root / RECORDINGS).is_dir()
            if there and error.errno in NO_SUCH_FILE | {errno.EISDIR, errno.ENXIO}:
                raise FileNotFoundError(f"There is no file {path}") from None
            raise StorageUnavailable from error
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            file.close()
            raise FileNotFoundError(f"Not a regular file: {path}")
        return Content(path, file, _status(status))

    def sha256(self, path: StoredPath) -> bytes:
        """Return the SHA-256 of a file's content. OSError."""
        with (self.root / path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    def list(self, prefix: str, after: str = "") -> Iterator[StoredFile]:
        """Yield the files below the folder `prefix` whose paths sort after `after`, in order.

        Symbolic links are an operator's work: they are neither followed nor taken for files. What
        the disk cannot read is left out, and goes into `unreadable`.
        """
        waiting = [*reversed(self._entries(prefix))]  # no recursion: folders may be very deep
        while waiting:
            path, entry = waiting.pop()
            if entry.is_dir(follow_symlinks=False):
                if f"{path}/" > after or after.startswith(f"{path}/"):
                    waiting.extend(reversed(self._entries(path)))
            elif path > after and not entry.is_symlink():
                yield from self._listed(path, entry)

    def _entries(self, folder: str) -> Sequence[tuple[str, os.DirEntry[str]]]:
        """Return a folder's entries and their paths, in the order of the paths below them."""
        try:
            with os.scandir(self.root / folder) as entries:
                return [
                    (f"{folder}/{entry.name}", entry) for entry in sorted(entries, key=_sort_key)
                ]
        except FileNotFoundError:
            pass  # retention removes empty folders
        except OSError as error:
            self.unreadable[folder] = error.strerror or str(error)
        return []

    def _listed(self, path: str, entry: os.DirEntry[str]) -> Iterator[StoredFile]:
        """Yield the file, unless it has just been removed."""
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            pass
        except OSError as error:
            self.unreadable[path] = error.strerror or str(error)
        else:
            yield StoredFile(StoredPath(path), status.st_size, status.st_mtime)


def _sort_key(entry: os.DirEntry[str]) -> str:
    return f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name


def _status(status: os.stat_result) -> FileStatus:
    return FileStatus(status.st_size, status.st_mtime, version_of(status))


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting: a named pipe in place of a file has no writer."""
    return os.open(path, flags | os.O_NONBLOCK)
