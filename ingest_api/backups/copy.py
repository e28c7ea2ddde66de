"""Copies files from one tree to another, into a backup or out of it.

Each file is compared with its row while it is copied, synced under a temporary name, and only then
renamed: a file under its own name is whole. A file that differs from its row is reported and not
copied, so a damaged file never replaces a good one.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from ingest_api.backups.manifest import BackupError
from ingest_api.errors import StorageUnavailable
from ingest_api.models.backups import ListedFile
from ingest_api.storage.disk.temporary import FILE_MODE
from ingest_api.storage.disk.upkeep import DiskUpkeep
from ingest_api.storage.layout import RECORDINGS

TEMPORARY = "copy-"  # the prefix of temporary names
THREADS = 4  # so that several files share a flush of the disk
_BATCH = 256
_PIECE = 1 << 18


@dataclass(frozen=True)
class Outcome:
    """The result for one file."""

    file: ListedFile
    copied: bool = False
    fault: str | None = None  # why the target lacks it


class _Unreadable(Exception):
    pass


class Copy:
    """A copy from `source` to `target`, by way of the folder `scratch` on the target's disk.

    A file that exists with the right size is left alone; with `thorough` only if its SHA-256 is
    right as well. The umask decides the modes.
    """

    def __init__(
        self, source: DiskUpkeep, target: DiskUpkeep, scratch: Path, *, thorough: bool = False
    ) -> None:
        self._source = source
        self._target = target
        self._root = os.path.realpath(target.root)
        self._scratch = scratch
        self._thorough = thorough
        self._require_plain = lru_cache(maxsize=1024)(self._require_no_links)

    def all(self, files: Iterable[ListedFile]) -> Iterator[Outcome]:
        """Yield each file's outcome, in order, with few of them in memory. Raise StorageUnavailable
        or OSError if the target's disk fails, or all of the source's."""
        files = iter(files)
        with ThreadPoolExecutor(THREADS) as threads:
            try:
                while batch := list(islice(files, _BATCH)):
                    yield from threads.map(self.one, batch)
            finally:
                threads.shutdown(cancel_futures=True)

    def one(self, file: ListedFile) -> Outcome:
        try:
            if self.holds(file):
                return Outcome(file)
            with self._open(file) as source:
                return self._copy(source, file)
        except ValueError:
            return Outcome(file, fault="leads out of AUDIO_STORAGE_DIR")
        except FileNotFoundError:
            return Outcome(file, fault="there is no file")
        except _Unreadable as error:
            return Outcome(file, fault=f"cannot be read: {error}")

    def holds(self, file: ListedFile) -> bool:
        """Return whether the target has it intact. Raise ValueError if it leads out of the tree."""
        path = self._place(file)
        status = self._target.status(self._target.canonical(file.path))
        if status is None or status.size != file.size or path.is_symlink():
            return False
        return not self._thorough or file.sha256 is None or self._has_content(file)

    def _open(self, file: ListedFile) -> BinaryIO:
        try:
            return self._source.open(self._source.canonical(file.path)).file
        except StorageUnavailable as error:
            if not (self._source.root / RECORDINGS).is_dir():
                raise
            raise _Unreadable(error.cause) from error

    def _has_content(self, file: ListedFile) -> bool:
        try:
            return self._target.sha256(self._target.canonical(file.path)) == file.sha256
        except OSError:
            return False

    def _place(self, file: ListedFile) -> Path:
        if self._target.canonical(file.path) != file.path:
            raise ValueError(f"{file.path} is not a path of this service")
        self._require_plain(os.path.dirname(file.path))  # noqa: PTH120  of a relative path
        return self._target.root / file.path

    def _require_no_links(self, folder: str) -> None:
        if os.path.realpath(f"{self._root}/{folder}") != f"{self._root}/{folder}".rstrip("/"):
            raise BackupError(
                f"{self._target.root / folder} is reached through a symbolic link, so nothing is "
                "written there",
                "put the folder itself in its place",
            )

    def _copy(self, source: BinaryIO, file: ListedFile) -> Outcome:
        size = os.fstat(source.fileno()).st_size
        path, temporary = self._place(file), self._scratch / f"{TEMPORARY}{token_hex(8)}"
        try:
            if size == file.size:  # otherwise it may be huge
                sha256, size = _write(source, temporary)
            if size != file.size:
                return Outcome(file, fault=f"{size} bytes, not {file.size}")
            if file.sha256 not in {None, sha256}:
                fault = f"SHA-256 {sha256.hex()}, not {(file.sha256 or b'').hex()}"
                return Outcome(file, fault=fault)
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return Outcome(file, copied=True)


def _write(source: BinaryIO, path: Path) -> tuple[bytes, int]:
    """Write durably, and return the SHA-256 and the size of what was written."""
    digest = hashlib.sha256()
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, FILE_MODE)) as target:
        for piece in _pieces(source):
            digest.update(piece)
            target.write(piece)
        target.flush()
        os.fsync(target.fileno())
        return digest.digest(), target.tell()


def _pieces(source: BinaryIO) -> Iterator[bytes]:
    try:
        while piece := source.read(_PIECE):
            yield piece
    except OSError as error:
        raise _Unreadable(error.strerror or str(error)) from error
