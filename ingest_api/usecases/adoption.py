"""Writes the rows of files that have none. After a restore of an older database their uploads
were acknowledged, so their rows are owed.

A file proves its facts: its name has its id, which hashes the device, the start and the content.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import BufferedReader
from typing import cast
from uuid import UUID

from ingest_api.database import queries
from ingest_api.database.pool import Connection
from ingest_api.errors import StorageUnavailable
from ingest_api.models.chunks import ChunkStatus, NewChunk, Recording
from ingest_api.opus import Audio, read_audio
from ingest_api.storage.base import Content
from ingest_api.storage.disk.upkeep import DiskUpkeep
from ingest_api.storage.layout import NamedChunk, StoredPath, named_chunk
from ingest_api.usecases.uploads import chunk_id_for, new_chunk

_CODEC = "opus"


class NotAdoptable(Exception):
    """Why a file stays without a row."""


class Adoption:
    """One run. The caller holds the lock of `DiskUpkeep`."""

    def __init__(
        self, connection: Connection, files: DiskUpkeep, *, waiting_status: ChunkStatus
    ) -> None:
        self._connection = connection
        self._files = files
        self._waiting_status = waiting_status
        self._register: tuple[UUID, UUID] | None = None
        self._devices: list[UUID] = []  # of that register: files come register by register

    def adopt(self, file: StoredPath, place: StoredPath) -> UUID:
        """Write the row of a file that belongs at `place`, and bring it there; return its id.
        NotAdoptable; StorageUnavailable."""
        named = named_chunk(place)
        if named is None:
            raise NotAdoptable("its name is none that this service gives")
        if queries.chunks.is_pruned(self._connection, named.chunk_id):
            raise NotAdoptable("retention has removed its chunk")
        chunk, received_at = self._read(file, named)
        if file != place and not self._files.bring_back(file, place):
            raise NotAdoptable("another file is in its place")
        self._files.settle(place, chunk.start_ts)
        queries.files.adopt_chunk(
            self._connection, chunk, status=self._waiting_status, received_at=received_at
        )
        return chunk.chunk_id

    def may_be_of(self, file: StoredPath, named: NamedChunk, device_id: UUID) -> bool:
        """Return whether a device has recorded a file, or may have, if that is damaged."""
        if device_id not in self._devices_at(named):
            return False
        try:
            with self._opened(file) as content:
                return self._prove(named, _sha256(content))[0] == device_id
        except NotAdoptable:
            return True

    def _read(self, file: StoredPath, named: NamedChunk) -> tuple[NewChunk, datetime]:
        """Return a file's chunk, and when it was received."""
        with self._opened(file) as content:
            sha256 = _sha256(content)
            device_id, start_ts = self._prove(named, sha256)
            content.file.seek(0)
            end_ts, audio = _end(content, start_ts)
        recording = Recording(
            *(device_id, named.point_id, named.register_id, start_ts, end_ts),
            *(_CODEC, audio.sample_rate, audio.channels),
        )
        chunk = new_chunk(recording, sha256=sha256, size=content.status.size)
        return chunk, datetime.fromtimestamp(content.status.written_at, UTC)

    @contextmanager
    def _opened(self, file: StoredPath) -> Iterator[Content]:
        """Lend an open file. NotAdoptable when it cannot be read."""
        try:
            content = self._files.open(file)
            with content.file:
                yield content
        except FileNotFoundError as error:
            raise NotAdoptable(str(error)) from None
        except StorageUnavailable as error:
            raise NotAdoptable(f"it cannot be read: {error.__cause__}") from None
        except OSError as error:
            raise NotAdoptable(f"it cannot be read: {error.strerror}") from None

    def _prove(self, named: NamedChunk, sha256: bytes) -> tuple[UUID, datetime]:
        """Return the device and the start, in microseconds, of which the id is made."""
        for device_id in self._devices_at(named):
            for microsecond in range(1000):
                start_ts = named.start_ts + timedelta(microseconds=microsecond)
                if chunk_id_for(device_id, start_ts, sha256) == named.chunk_id:
                    return device_id, start_ts
        raise NotAdoptable("it is damaged, or no device that is known there has recorded it")

    def _devices_at(self, named: NamedChunk) -> list[UUID]:
        register = named.point_id, named.register_id
        if register != self._register:
            self._devices = queries.devices.list_register_devices(self._connection, *register)
            self._register = register
        return self._devices


def _sha256(content: Content) -> bytes:
    return hashlib.file_digest(cast(BufferedReader, content.file), "sha256").digest()


def _end(content: Content, start_ts: datetime) -> tuple[datetime, Audio]:
    """Return when a recording ended, and what it says of itself."""
    try:
        audio = read_audio(content.file)
        return start_ts + timedelta(seconds=audio.seconds), audio
    except (ValueError, OverflowError) as error:
        raise NotAdoptable(f"how long it lasts is not known: {error}") from None
