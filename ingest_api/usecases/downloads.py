"""The use case: a stored chunk's file, for whoever is to process it. Knows nothing of HTTP."""

import os
from dataclasses import dataclass
from typing import BinaryIO
from uuid import UUID

from ingest_api.database import queries
from ingest_api.database.pool import Connection, Database
from ingest_api.errors import ChunkNotFound, ChunkPruned, FileDamaged, FileMissing
from ingest_api.models.chunks import ChunkProgress
from ingest_api.storage.disk.upkeep import StoredFiles


@dataclass(frozen=True)
class Download:
    """A chunk's file, open at its beginning. Whoever has it closes it."""

    chunk: ChunkProgress
    file: BinaryIO
    written_at: float  # Unix time


def open_chunk(chunk_id: UUID, *, database: Database, files: StoredFiles) -> Download:
    """ChunkNotFound, ChunkPruned, FileMissing, FileDamaged, StorageUnavailable,
    DatabaseUnavailable."""
    with database.connection() as connection:
        chunk = find_chunk(connection, chunk_id)
    try:
        file = files.open(chunk.file_path)
    except (FileNotFoundError, ValueError) as error:
        with database.connection() as connection:
            find_chunk(connection, chunk_id)  # retention may have come in between
        raise FileMissing from error
    status = os.fstat(file.fileno())
    if status.st_size != chunk.file_size_bytes:
        file.close()
        lengths = f"{status.st_size} bytes, not {chunk.file_size_bytes}"
        raise FileDamaged from ValueError(f"{lengths}: {chunk.file_path}")
    return Download(chunk, file, status.st_mtime)


def find_chunk(connection: Connection, chunk_id: UUID) -> ChunkProgress:
    """ChunkNotFound; ChunkPruned when retention has removed it, or is about to."""
    chunk = queries.leases.get_chunk_progress(connection, chunk_id)
    if chunk is None and not queries.leases.is_pruned(connection, chunk_id):
        raise ChunkNotFound
    if chunk is None or chunk.status == "PRUNED":
        raise ChunkPruned
    return chunk
