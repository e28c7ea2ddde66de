"""Reads stored files: their paths, status and content.

A path is the column `file_path`: relative to the root, as this service writes it, or spelled
differently in rows of the earlier service. ValueError for a path that leads out of the root.
"""

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
from ingest_api.storage.layout import RECORDINGS

NO_SUCH_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


class DiskFiles:
    """The files below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.normpath(root))
        self.unreadable: dict[str, str] = {}  # paths that `list` could not read, and why

    def canonical(self, path: str) -> str:
        """Return a path in this service's spelling."""
        full = os.path.normpath(f"{self.root}/{path}" if path[:1] != "/" else path)
        if not full.startswith(f"{self.root}/") or "\0" in full:
            raise ValueError(f"{path} is not below {self.root}")
        return full.removeprefix(f"{self.root}/")

    def spellings(self, path: str) -> tuple[str, ...]:
        """Return every spelling of a canonical path that a row may have."""
        return path, f"./{path}", f"{self.root}/{path}"

    @disk_errors()
    def status(self, path: str) -> FileStatus | None:
        """Return the status of a file, or None when there is none. ValueError; StorageUnavailable
        when the disk fails."""
        try:
            status = self.locate(path).stat()
        except OSError as error:
            if error.errno in NO_SUCH_FILE:
                return None
            raise
        return _status(status) if stat.S_ISREG(status.st_mode) else None

    def open(self, path: str) -> Content:
        """Open a file. FileNotFoundError, ValueError; StorageUnavailable also when the folder of
        all recordings is missing: an unmounted disk has lost nothing."""
        canonical = self.canonical(path)
        try:
            file = open(self.root / canonical, "rb", opener=_open_at_once)  # noqa: SIM115
        except OSError as error:
            there = (self.root / RECORDINGS).is_dir()
            if there and error.errno in NO_SUCH_FILE | {errno.EISDIR, errno.ENXIO}:
                raise FileNotFoundError(f"There is no file {path}") from None
            raise StorageUnavailable from error
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            file.close()
            raise FileNotFoundError(f"Not a regular file: {path}")
        return Content(canonical, file, _status(status))

    def sha256(self, path: str) -> bytes:
        """Return the SHA-256 of a file's content. ValueError, OSError."""
        with self.locate(path).open("rb") as file:
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

    def locate(self, path: str) -> Path:
        """Return the full path of a file. ValueError."""
        return self.root / self.canonical(path)

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
            yield StoredFile(path, status.st_size, status.st_mtime)


def _sort_key(entry: os.DirEntry[str]) -> str:
    return f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name


def _status(status: os.stat_result) -> FileStatus:
    return FileStatus(status.st_size, status.st_mtime, version_of(status))


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting: a named pipe in place of a file has no writer."""
    return os.open(path, flags | os.O_NONBLOCK)
