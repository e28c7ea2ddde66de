"""A file that is being written, until it is linked to its final name or discarded."""

import logging
import os
from contextlib import suppress
from functools import partial
from pathlib import Path

from ingest_api.failpoints import Failpoint, reached
from ingest_api.storage.disk.errors import disk_errors
from ingest_api.storage.disk.folders import FOLDER_MODE

FILE_MODE = 0o640

_log = logging.getLogger(__name__)


class TemporaryFile:
    """A new file under a temporary name. StorageFull, StorageUnavailable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._names = [path]
        self._descriptor = _create(path)

    @property
    def version(self) -> str:
        """Return the identity of the file, whatever its names."""
        return version_of(os.fstat(self._descriptor))

    @disk_errors
    def write(self, data: bytes) -> None:
        """Append all of `data`."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        reached(Failpoint.WRITTEN)

    @disk_errors
    def sync(self) -> None:
        """Make the bytes survive a power cut."""
        os.fsync(self._descriptor)
        reached(Failpoint.SYNCED)

    def link(self, final: Path) -> None:
        """Give the file its final name. OSError; FileNotFoundError when the folder is missing."""
        try:
            os.link(self.path, final)
        except FileExistsError:
            # The id in the name stands for the bytes: this is the same upload. Its file may have
            # been damaged since, so the new bytes take its place.
            twin = self.path.with_suffix(f".twin{len(self._names)}")
            self._names.append(twin)
            os.link(self.path, twin)
            twin.replace(final)

    def discard(self) -> None:
        """Close the file and remove its temporary names; its final names stay.

        A disk that fails here must not turn a stored upload into a failed one, nor hide why one
        failed. A name left behind is harmless, and `flask ingest fsck` finds it.
        """
        unlinks = [partial(os.unlink, name) for name in self._names]
        for tidy in [partial(os.close, self._descriptor), *unlinks]:
            try:
                with suppress(FileNotFoundError):
                    tidy()
            except OSError as error:
                _log.warning("a temporary file was left behind: %s", error)
        reached(Failpoint.CLEANED)


def version_of(status: os.stat_result) -> str:
    """Return an identity that no other file has at the same time."""
    return f"{status.st_dev}:{status.st_ino}"


@disk_errors
def _create(path: Path) -> int:
    """Create the file, and its folder if that is missing; return the descriptor."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, FILE_MODE)
    except FileNotFoundError:
        path.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
        return os.open(path, flags, FILE_MODE)
