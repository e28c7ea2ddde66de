"""The bytes of a recording as they arrive: limited, counted, hashed, and handed to a spool."""

import hashlib
from datetime import UTC, datetime
from time import monotonic
from typing import Generic

from ingest_api.errors import FileTooLarge
from ingest_api.storage.base import SpoolT


class Incoming(Generic[SpoolT]):
    """A recording of at most `max_bytes` that is arriving in `spool`."""

    def __init__(self, spool: SpoolT, *, max_bytes: int) -> None:
        self.spool = spool
        self.max_bytes = max_bytes
        self.begun_at = datetime.now(UTC)
        self.begun = monotonic()
        self.size = 0  # bytes so far
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> bytes:
        """Return the SHA-256 (32 bytes) of the bytes written so far."""
        return self._hash.digest()

    def write(self, data: bytes) -> None:
        """Append the next bytes. FileTooLarge, StorageFull, StorageUnavailable."""
        self.size += len(data)
        if self.size > self.max_bytes:
            raise self.too_large()
        self._hash.update(data)
        self.spool.write(data)

    def too_large(self) -> FileTooLarge:
        """Return the error for a recording of more than `max_bytes`."""
        return FileTooLarge(f"{FileTooLarge.message} of {self.max_bytes} bytes")
