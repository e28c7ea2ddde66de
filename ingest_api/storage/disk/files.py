"""Stored files, read: where a path leads, what is there, what it holds.

Paths are those of the column `file_path`: relative to the root, as this service writes them, or
spelled otherwise in rows of the earlier service. ValueError for a path that leads out of the root.
"""

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

from ingest_api.errors import StorageUnavailable
from ingest_api.storage.layout import RECORDINGS

_NO_SUCH_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


class DiskFiles:
    """Files below `root`. StorageUnavailable when the disk fails as a whole."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.normpath(root))

    def canonical(self, file_path: str) -> str:
        """A path as this service spells it."""
        path = os.path.normpath(self.root / file_path)
        if not path.startswith(f"{self.root}/") or "\0" in path:
            raise ValueError(f"{file_path} is not below {self.root}")
        return path.removeprefix(f"{self.root}/")

    def spellings(self, file_path: str) -> list[str]:
        """A canonical path in the ways in which a row may spell it."""
        return [file_path, f"./{file_path}", f"{self.root}/{file_path}"]

    def status(self, file_path: str) -> os.stat_result | None:
        """None when there is no such file. ValueError, and OSError when it cannot be told."""
        try:
            status = self._path(file_path).stat()
        except OSError as error:
            if error.errno in _NO_SUCH_FILE:
                return None
            raise
        return status if stat.S_ISREG(status.st_mode) else None

    def open(self, file_path: str) -> BinaryIO:
        """A file as it is stored. FileNotFoundError, ValueError; StorageUnavailable also when not
        even the folder of all recordings is there: a disk that is not mounted has lost nothing."""
        try:
            file = open(self._path(file_path), "rb", opener=_open_at_once)  # noqa: SIM115
        except OSError as error:
            there = (self.root / RECORDINGS).is_dir()
            if there and error.errno in _NO_SUCH_FILE | {errno.EISDIR, errno.ENXIO}:
                raise FileNotFoundError(f"There is no file {file_path}") from None
            raise StorageUnavailable from error
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise FileNotFoundError(f"This is no file: {file_path}")
        return file

    def sha256(self, file_path: str) -> bytes:
        """Of what is in the file. OSError when it cannot be read."""
        with self._path(file_path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    def _path(self, file_path: str) -> Path:
        return self.root / self.canonical(file_path)


def _open_at_once(path: str, flags: int) -> int:
    """A pipe that lies there would else be waited for."""
    return os.open(path, flags | os.O_NONBLOCK)
