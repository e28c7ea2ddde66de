"""A file that is being written, until it is linked to its final name or discarded."""

import hashlib
import logging
import os
from contextlib import suppress
from functools import partial
from pathlib import Path

from ingest_api.errors import FileTooLarge
from ingest_api.failpoints import Failpoint, reached
from ingest_api.storage.disk.errors import disk_errors

FILE_MODE = 0o640

_log = logging.getLogger(__name__)


class Incoming:
    """A file that is arriving: each write goes to disk and into the hash and the count at once."""

    def __init__(self, descriptor: int, path: Path, max_bytes: int) -> None:
        self.path = path
        self._names = [path]
        self.size = 0  # bytes written
        self.max_bytes = max_bytes
        self._descriptor = descriptor
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> bytes:
        """Of what was written so far; 32 bytes."""
        return self._hash.digest()

    @disk_errors()
    def write(self, data: bytes) -> int:
        """Append all of `data`. FileTooLarge, StorageFull, StorageUnavailable."""
        self.size += len(data)
        if self.size > self.max_bytes:
            raise self.too_large()
        self._hash.update(data)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        reached(Failpoint.WRITTEN)
        return len(data)

    def too_large(self) -> FileTooLarge:
        """What to tell who sends more than `max_bytes`."""
        return FileTooLarge(f"{FileTooLarge.message} of {self.max_bytes} bytes")

    @disk_errors()
    def sync(self) -> None:
        """Return when the bytes would survive a power cut."""
        os.fsync(self._descriptor)
        reached(Failpoint.SYNCED)

    def link(self, final: Path) -> None:
        """Give it its final name."""
        try:
            os.link(self.path, final)
        except FileExistsError:
            # The id in the name stands for the bytes: this is the same upload. Its file may have
            # been damaged since, so the bytes in hand take its place.
            twin = self.path.with_suffix(f".twin{len(self._names)}")
            self._names.append(twin)
            os.link(self.path, twin)
            twin.replace(final)

    def has_name(self, final: Path) -> bool:
        """Another may have it, of the same bytes, of which nobody knows yet how durable it is."""
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self._descriptor), final.stat())
        return False

    def discard(self) -> None:
        """Close it and take its temporary names away; what is stored under another name stays.

        A disk that fails here must not turn a stored upload into a failed one, nor hide why one
        failed: what it leaves behind is harmless, and `flask ingest fsck` finds it.
        """
        unlinks = [partial(os.unlink, name) for name in self._names]
        for tidy in [partial(os.close, self._descriptor), *unlinks]:
            try:
                tidy()
            except FileNotFoundError:
                pass
            except OSError as error:
                _log.warning("a temporary file was left behind: %s", error)
        reached(Failpoint.CLEANED)
