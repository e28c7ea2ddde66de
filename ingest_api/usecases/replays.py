"""The use case: tell a device which recordings are stored already, before it sends their bytes.

What it confirms is promised as by an upload's 200: the row is committed, and its file is there,
with its size, and survives a power cut. Knows nothing of HTTP.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from ingest_api.database import queries
from ingest_api.database.pool import Database
from ingest_api.errors import DatabaseUnavailable
from ingest_api.models.chunks import Chunk, ChunkFile, KeptRecording, Receipt, UploadForm
from ingest_api.models.devices import Device
from ingest_api.storage.base import Store
from ingest_api.storage.layout import StoredPath
from ingest_api.usecases.uploads import chunk_id_for, require_own

CONFIRM_SECONDS = 0.9
"""How long an upload waits for a look-up that may spare its bytes; see database.pool."""


class Replays:
    """Finds recordings that are stored already. StorageUnavailable."""

    def __init__(self, store: Store[Any], database: Database) -> None:
        self._store = store
        self._database = database

    def confirm(self, device: Device, form: UploadForm, sha256: bytes) -> Receipt | None:
        """Return the receipt of a chunk that is known and whole, else None: its bytes are needed.
        DeviceMismatch, IdentityMismatch."""
        recording = form.recording
        require_own(device, recording)
        chunk_id = chunk_id_for(recording.device_id, recording.start_ts, sha256)
        offset = form.clock_offset(datetime.now(UTC))
        try:
            with self._database.upload_connection(device.device_id, CONFIRM_SECONDS) as connection:
                known = queries.chunks.confirm_chunk(connection, chunk_id, clock_offset=offset)
        except DatabaseUnavailable:
            return None  # who declares a digest is not refused for that
        if known is None:
            return None
        # The id stands for this SHA-256, whatever the row says by now.
        path = self._store.path_of(replace(known, sha256=sha256))
        if not self._whole({path: known}):
            return None
        return Receipt(replace(known, file_path=path), duplicate=True)

    def find_known(self, device: Device, kept: Sequence[KeptRecording]) -> list[bool]:
        """Return of each recording whether its chunk is known and whole. DatabaseUnavailable."""
        ids = [
            [chunk_id_for(device.device_id, start, recording.sha256) for start in recording.starts]
            for recording in kept
        ]
        digests = {id_: kept[at].sha256 for at, possible in enumerate(ids) for id_ in possible}
        with self._database.upload_connection(device.device_id) as connection:
            rows = queries.chunks.confirm_chunks(connection, list(digests))
        rows = [replace(row, sha256=digests[row.chunk_id]) for row in rows]
        whole = self._whole({self._store.path_of(row): row for row in rows})
        return [not whole.isdisjoint(possible) for possible in ids]

    def _whole(self, files: Mapping[StoredPath, Chunk | ChunkFile]) -> set[UUID]:
        """Return the ids of the chunks whose files are there and durable."""
        found = {}
        for path, row in files.items():
            status = self._store.status(path)
            if status and status.size == row.file_size_bytes:
                found[path] = row
        self._store.sync({path: row.start_ts for path, row in found.items()})
        return {row.chunk_id for row in found.values()}
