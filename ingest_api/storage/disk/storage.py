"""The store on a local disk: files are written, synced, given a final name, and only then in use.

Knows neither the content of a file nor whether a row refers to it.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from secrets import token_hex

from ingest_api.errors import StorageFull
from ingest_api.failpoints import Failpoint, reached
from ingest_api.storage.disk.errors import disk_errors
from ingest_api.storage.disk.folders import FOLDER_MODE, sync_path
from ingest_api.storage.disk.temporary import TemporaryFile
from ingest_api.storage.disk.upkeep import DiskUpkeep
from ingest_api.storage.layout import INCOMING, RECORDINGS, StoredPath

_RACES = 10
"""How often retention may remove a folder that an upload has created but not filled yet."""


class DiskStorage(DiskUpkeep):
    """The folder AUDIO_STORAGE_DIR: a `Store` (storage/base.py), and what only a disk has.

    With fewer than `min_free_bytes` free for this user: StorageFull.
    """

    def __init__(self, root: Path, *, min_free_bytes: int = 0) -> None:
        super().__init__(root)
        self._min_free_bytes = min_free_bytes

    @disk_errors
    def prepare(self) -> None:
        """Create the folder, once, when the service starts. A folder missing later is an error: its
        disk may be unmounted, and recordings must not go to the disk below."""
        missing = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
        self.root.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        for folder in missing:
            sync_path(folder.parent)

    @contextmanager
    def spool(self) -> Iterator[TemporaryFile]:
        """Lend a new temporary file on the same file system, so that it can be linked."""
        self.require_free_space()
        file = TemporaryFile(self.root / INCOMING / token_hex(16))
        reached(Failpoint.OPENED)
        try:
            yield file
        finally:
            file.discard()

    @disk_errors
    def store(self, spool: TemporaryFile, path: StoredPath, recorded_at: datetime) -> str:
        """Give a received file its final name, durably, and return its version.

        The order is the promise: the bytes, the name, the folders above, then the folder it is in.
        Syncing a file does not sync its entry (fsync(2)).
        """
        spool.sync()
        final = self.root / path
        for _ in range(_RACES):
            try:
                self._name(spool, final, recorded_at)
                return spool.version
            except (FileNotFoundError, FileExistsError):
                self._folders.forget()  # retention is removing folders
        self._name(spool, final, recorded_at)
        return spool.version

    @disk_errors
    def sync(self, recordings: Mapping[StoredPath, datetime]) -> None:
        """Sync the entries of files: their bytes were synced before they were linked."""
        folders = {(self.root / path).parent: time for path, time in recordings.items()}
        for folder, recorded_at in folders.items():
            with suppress(FileNotFoundError):  # retention has removed it
                self._folders.settle(folder, recorded_at)
                sync_path(folder)

    def url(self, path: StoredPath, seconds: int) -> str | None:
        """Return None: the service, or nginx beside it, serves the files of a disk."""
        return None

    @disk_errors
    def probe(self) -> None:
        """Test by writing whether an upload could be stored now."""
        recordings = self.root / RECORDINGS
        folder = recordings if recordings.exists() else self.root  # the first upload creates it
        final = folder / f".probe-{token_hex(8)}"
        with self.spool() as file:
            file.write(b"x")
            try:
                file.link(final)  # fails between two file systems, and on one without hard links
            finally:
                final.unlink(missing_ok=True)

    @disk_errors
    def free_bytes(self) -> int:
        """Return how many bytes are free for this user."""
        status = os.statvfs(self.root)
        return status.f_bavail * status.f_frsize

    @disk_errors
    def require_free_space(self) -> None:
        """Raise StorageFull when less than MIN_FREE_BYTES are free for this user."""
        free = self.free_bytes()
        if free < self._min_free_bytes:
            raise StorageFull(f"Only {free} bytes are free, {self._min_free_bytes} are reserved")

    def _name(self, spool: TemporaryFile, final: Path, recorded_at: datetime) -> None:
        """Link the name first, then sync the folders: a folder with a file in it is not removed."""
        try:
            spool.link(final)
        except FileNotFoundError:
            self._folders.make(final.parent)
            spool.link(final)
        reached(Failpoint.LINKED)
        self._folders.settle(final.parent, recorded_at)
        sync_path(final.parent)
        reached(Failpoint.FOLDER_SYNCED)
