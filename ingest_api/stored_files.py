"""The files that are stored already: looked at, set aside and removed, for `flask ingest fsck` and
`prune`. How a file comes to be stored is `storage.py`'s business.

Paths are relative to AUDIO_STORAGE_DIR, as in the column `file_path`.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path

from ingest_api.errors import StorageUnavailable
from ingest_api.models import PrunedFile
from ingest_api.storage import (
    FOLDER_MODE,
    INCOMING,
    RECORDINGS,
    REMOVED_AGE,
    disk_errors,
    sync_folder,
)

LOST_AND_FOUND = ".lost+found"


class StoredFiles:
    """What is below AUDIO_STORAGE_DIR. StorageUnavailable when the disk fails."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @disk_errors()
    def require_recordings(self) -> None:
        """StorageUnavailable when there is not even the folder for recordings: then a disk is not
        mounted, and all that is missing is not gone."""
        if not self._path(RECORDINGS).is_dir():
            raise StorageUnavailable(
                f"There is no folder {self._path(RECORDINGS)}. Is its disk mounted, and is "
                "AUDIO_STORAGE_DIR the service's own?"
            )

    @disk_errors()
    def status(self, file_path: str) -> os.stat_result | None:
        """None when there is no such file, or when the path leads out of the folder."""
        with suppress(FileNotFoundError, NotADirectoryError, ValueError):
            status = self._path(file_path).stat()
            return status if stat.S_ISREG(status.st_mode) else None
        return None

    @disk_errors()
    def sha256(self, file_path: str) -> bytes | None:
        """Of what is in the file; None when it is gone."""
        try:
            with self._path(file_path).open("rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
        except FileNotFoundError:
            return None

    def recordings(self) -> Iterator[str]:
        """Every file there is, in no order. Symbolic links are files and not followed."""
        with disk_errors():
            yield from self._walk(RECORDINGS)

    def temporary_files(self) -> Iterator[str]:
        """Files that are still arriving, or were when a process died."""
        with disk_errors():
            yield from self._walk(INCOMING)

    @disk_errors()
    def is_older_than(self, file_path: str, seconds: float) -> bool:
        """Whether it was written that long ago; False when it is gone."""
        with suppress(FileNotFoundError):
            return _age(self._path(file_path)) > seconds
        return False

    @disk_errors()
    def remove_temporary_file(self, file_path: str) -> None:
        self._path(file_path).unlink(missing_ok=True)

    @disk_errors()
    def set_aside(self, file_path: str, *, grace: float) -> str | None:
        """Move a file into .lost+found and return its path there; None when it has been written
        in the last `grace` seconds, or is gone.

        An upload may put the file there anew at any time, so its age is looked at where no upload
        can reach it any more, and a fresh one is put back.
        """
        source = self._path(file_path)
        target = self._free_name(self._path(f"{LOST_AND_FOUND}/{file_path}"))
        target.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        try:
            source.rename(target)
        except FileNotFoundError:
            return None
        if _age(target) <= grace:
            with suppress(FileExistsError):
                os.link(target, source)
            sync_folder(source.parent)
            target.unlink()
            return None
        return str(target.relative_to(self.root))

    @disk_errors()
    def remove(self, files: Iterable[PrunedFile]) -> None:
        """Remove files, and the folders that this leaves empty and nobody remembers (see
        REMOVED_AGE in `storage.py`). One that is gone already is no error.

        The last folder is synced, and with it, on a file system that keeps a journal, what was
        done before.
        """
        folder = self.root
        for file in files:
            with suppress(ValueError):  # a path that leads elsewhere names no file of ours
                path = self._path(file.file_path)
                path.unlink(missing_ok=True)
                folder = path.parent
                if datetime.now(UTC) - file.start_ts > REMOVED_AGE:
                    folder = self._remove_empty_folders(folder)
        sync_folder(folder if folder.exists() else self.root)

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

    def _walk(self, folder: str) -> Iterator[str]:
        with suppress(FileNotFoundError), os.scandir(self.root / folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from self._walk(f"{folder}/{entry.name}")
                else:
                    yield f"{folder}/{entry.name}"

    def _path(self, file_path: str) -> Path:
        if file_path.startswith("/") or ".." in file_path.split("/") or "\0" in file_path:
            raise ValueError("not a path below the root")
        return self.root / file_path

    def _free_name(self, path: Path) -> Path:
        names = chain([path], (path.with_name(f"{path.name}.{n}") for n in count(1)))
        return next(name for name in names if not os.path.lexists(name))


def _age(path: Path) -> float:
    """In seconds, since it was written."""
    return datetime.now(UTC).timestamp() - path.lstat().st_mtime
