"""The use case: open a stored chunk's file for the worker that processes it. Knows nothing of
HTTP."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ingest_api.database import queries
from ingest_api.database.pool import Connection, Database
from ingest_api.errors import ChunkNotFound, ChunkPruned, FileDamaged, FileMissing
from ingest_api.models.chunks import ChunkProgress, ChunkStatus
from ingest_api.storage.base import Content, Store


@dataclass(frozen=True)
class Download:
    """A chunk and its open file. The caller closes the file."""

    chunk: ChunkProgress
    content: Content


def open_chunk(chunk_id: UUID, *, database: Database, store: Store[Any]) -> Download:
    """Open a chunk's file. ChunkNotFound, ChunkPruned, FileMissing, FileDamaged,
    StorageUnavailable, DatabaseUnavailable."""
    with database.connection() as connection:
        chunk = find_chunk(connection, chunk_id)
    try:
        content = store.open(store.path_of(chunk))
    except FileNotFoundError as error:
        with database.connection() as connection:
            find_chunk(connection, chunk_id)  # retention may have removed it meanwhile
        raise FileMissing from error
    if content.status.size != chunk.file_size_bytes:
        content.file.close()
        lengths = f"{content.status.size} bytes, not {chunk.file_size_bytes}"
        raise FileDamaged from ValueError(f"{lengths}: {content.path}")
    return Download(chunk, content)


def find_chunk(connection: Connection, chunk_id: UUID) -> ChunkProgress:
    """Return a chunk. ChunkNotFound; ChunkPruned when retention has removed it or is about to."""
    chunk = queries.chunks.get_chunk_progress(connection, chunk_id)
    if chunk is None and not queries.chunks.is_pruned(connection, chunk_id):
        raise ChunkNotFound
    if chunk is None or chunk.status == ChunkStatus.PRUNED:
        raise ChunkPruned
    return chunk
