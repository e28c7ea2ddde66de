"""Takes files without a row back into the ledger. After a restore of an older ledger their uploads
were acknowledged, so their rows are owed.

A file proves its facts: its name has its id, which hashes the device, the start and the content.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from io import BufferedReader
from typing import cast
from uuid import UUID

from ingest_api.database import queries
from ingest_api.database.pool import Connection
from ingest_api.errors import StorageUnavailable
from ingest_api.models.chunks import ChunkStatus, NewChunk, Recording
from ingest_api.opus import read_audio
from ingest_api.storage.base import Content
from ingest_api.storage.disk.upkeep import DiskUpkeep
from ingest_api.storage.layout import NamedChunk, StoredPath, named_chunk
from ingest_api.usecases.uploads import chunk_id_for, new_chunk

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
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
        if file != place:
            self._files.bring_back(file, place)
        self._files.settle(place, chunk.start_ts)
        queries.files.adopt_chunk(
            self._connection, chunk, status=self._waiting_status, received_at=received_at
        )
        return chunk.chunk_id

    def device_of(self, file: StoredPath, named: NamedChunk) -> UUID | None:
        """Return which device has recorded a file; None if that cannot be proved."""
        try:
            return self._read(file, named)[0].device_id
        except (NotAdoptable, StorageUnavailable):
            return None

    def _read(self, file: StoredPath, named: NamedChunk) -> tuple[NewChunk, datetime]:
        """Return a file's chunk, and when it was received."""
        try:
            content = self._files.open(file)
        except FileNotFoundError as error:
            raise NotAdoptable(str(error)) from None
        try:
            with content.file:
                chunk = self._chunk(content, named)
        except OSError as error:
            raise NotAdoptable(error.strerror or str(error)) from None
        return chunk, datetime.fromtimestamp(content.status.written_at, UTC)

    def _chunk(self, content: Content, named: NamedChunk) -> NewChunk:
        sha256 = hashlib.file_digest(cast(BufferedReader, content.file), "sha256").digest()
        device_id, start_ts = self._prove(named, sha256)
        content.file.seek(0)
        try:
            audio = read_audio(content.file)
            end_ts = start_ts + timedelta(seconds=audio.seconds)
        except (ValueError, OverflowError) as error:
            raise NotAdoptable(f"how long it lasts is not known: {error}") from None
        recording = Recording(
            *(device_id, named.point_id, named.register_id, start_ts, end_ts),
            *(_CODEC, audio.sample_rate, audio.channels),
        )
        return new_chunk(recording, sha256=sha256, size=content.status.size)

    def _prove(self, named: NamedChunk, sha256: bytes) -> tuple[UUID, datetime]:
        """Return the device and the start, in microseconds, of which the id is made."""
        for device_id in self._devices_at(named):
            for microsecond in range(1000):
                start_ts = named.start_ts + timedelta(microseconds=microsecond)
                if chunk_id_for(device_id, start_ts, sha256) == named.chunk_id:
                    return device_id, start_ts
        raise NotAdoptable("it is damaged, or its device is not registered")

    def _devices_at(self, named: NamedChunk) -> list[UUID]:
        register = named.point_id, named.register_id
        if register != self._register:
            self._devices = queries.devices.list_register_devices(self._connection, *register)
            self._register = register
        return self._devices
