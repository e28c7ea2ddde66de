"""Files on disk: written once, synced, named for good, and only then spoken of.

What is in a file, and whether a row points at it, is not this module's business.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from secrets import token_hex

from ingest_api.errors import StorageFull, StorageUnavailable
from ingest_api.failpoints import Failpoint, reached
from ingest_api.settings import Settings
from ingest_api.storage.disk.errors import disk_errors
from ingest_api.storage.disk.folders import FOLDER_MODE, Folders, sync_folder
from ingest_api.storage.disk.temporary import FILE_MODE, Incoming
from ingest_api.storage.layout import INCOMING, RECORDINGS

_RACES = 10
"""So often may retention take away a folder that an upload has made, and not yet filled."""


class DiskStorage:
    """The folder `AUDIO_STORAGE_DIR` and what is allowed in it."""

    def __init__(self, settings: Settings) -> None:
        self.root = settings.audio_storage_dir
        self._max_bytes = settings.max_upload_size_bytes
        self._min_free_bytes = settings.min_free_bytes
        self._folders = Folders(self.root)

    @disk_errors()
    def prepare(self) -> None:
        """Make the folder, once, when the service starts. When it is missing later, that is an
        error: a disk may have gone, and recordings must not go to the one below it."""
        missing = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
        self.root.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        for folder in missing:
            sync_folder(folder.parent)

    @contextmanager
    def incoming(self) -> Iterator[Incoming]:
        """A new temporary file, gone at the end whatever happens. StorageFull,
        StorageUnavailable."""
        self.require_free_space()
        path = self.root / INCOMING / token_hex(16)
        file = Incoming(self._create(path), path, self._max_bytes)
        reached(Failpoint.OPENED)
        try:
            yield file
        finally:
            file.discard()

    @disk_errors()
    def require_free_space(self) -> None:
        """StorageFull when less than MIN_FREE_BYTES are free for this user."""
        status = os.statvfs(self.root)
        free = status.f_bavail * status.f_frsize
        if free < self._min_free_bytes:
            raise StorageFull(f"Only {free} bytes are free, {self._min_free_bytes} are reserved")

    @disk_errors()
    def commit(self, incoming: Incoming, file_path: str, recorded_at: datetime) -> None:
        """Give a received file its final name, durably: when this returns, a power cut leaves
        the file, whole, under `file_path`. The same file may be committed again.

        The order is the promise: the bytes, the name, the folders above, the one it is in: a
        file's sync is not its entry's (fsync(2)).
        """
        incoming.sync()
        final, durable = self.root / file_path, self._folders.durable(recorded_at)
        for _ in range(_RACES):
            try:
                self._name(incoming, final, durable)
                return
            except (FileNotFoundError, FileExistsError):
                durable.clear()  # somebody removes folders
        self._name(incoming, final, durable)

    @disk_errors()
    def holds(self, incoming: Incoming, file_path: str) -> bool:
        """Whether it is this file that has the name."""
        return incoming.has_name(self.root / file_path)

    @disk_errors()
    def probe(self) -> None:
        """Find out by writing whether an upload could be stored now. StorageFull,
        StorageUnavailable."""
        with self.incoming() as file:
            file.write(b"x")
        recordings = self.root / RECORDINGS
        if recordings.exists() and not os.access(recordings, os.W_OK | os.X_OK):
            raise StorageUnavailable(f"No file can be made in {recordings}")

    @disk_errors()
    def _create(self, path: Path) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(path, flags, FILE_MODE)
        except FileNotFoundError:
            path.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
            return os.open(path, flags, FILE_MODE)

    def _name(self, incoming: Incoming, final: Path, durable: set[str]) -> None:
        """The name first, then the folders' syncs: nobody removes one that has a file in it."""
        try:
            incoming.link(final)
        except FileNotFoundError:
            self._folders.make(final.parent, durable)
            incoming.link(final)
        reached(Failpoint.LINKED)
        self._folders.settle(final.parent, durable)
        sync_folder(final.parent)
        reached(Failpoint.FOLDER_SYNCED)
