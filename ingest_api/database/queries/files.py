"""What the rows say of their files: for fsck, for uploads, and for chunks requeued by id."""

from datetime import datetime
from uuid import UUID

from ingest_api.database.pool import Connection
from ingest_api.database.statements import rows, run, scalar, scalars
from ingest_api.models.chunks import FENCE_STEP, ChunkFile, ChunkStatus, NewChunk


def estimate_chunks(connection: Connection) -> int:
    return scalars(connection, int, "files/estimate_chunks")[0]


def list_chunk_files(connection: Connection, *, after: UUID, page: int) -> list[ChunkFile]:
    """Return up to `page` rows, in the order of their ids, which come after `after`."""
    return rows(connection, ChunkFile, "files/list_chunk_files", after=after, page=page)


def list_newest_files(connection: Connection) -> list[ChunkFile]:
    return rows(connection, ChunkFile, "files/list_newest_files")


def get_chunk_files(connection: Connection, chunk_ids: list[UUID]) -> list[ChunkFile]:
    return rows(connection, ChunkFile, "files/get_chunk_files", chunk_ids=chunk_ids)


def filter_known_paths(connection: Connection, file_paths: list[str]) -> list[str]:
    return scalars(connection, str, "files/filter_known_paths", file_paths=file_paths)


def adopt_chunk(
    connection: Connection, chunk: NewChunk, *, status: ChunkStatus, received_at: datetime
) -> bool:
    """Return whether the row is new."""
    values = vars(chunk) | {"status": status, "received_at": received_at, "fence": FENCE_STEP}
    return run(connection, "files/adopt_chunk", **values) > 0


def mark_file_missing(connection: Connection, chunk_id: UUID) -> bool:
    """Return whether the chunk was marked."""
    return run(connection, "files/mark_file_missing", chunk_id=chunk_id) > 0


def correct_path(connection: Connection, row: ChunkFile, file_path: str) -> bool:
    """Return whether the row got the path, which it does not if it has changed meanwhile."""
    values = {"chunk_id": row.chunk_id, "foreign_path": row.file_path, "file_path": file_path}
    return run(connection, "files/correct_path", **values) > 0


def restore_chunk(
    connection: Connection, chunk_id: UUID, *, waiting_status: ChunkStatus
) -> str | None:
    """Return the chunk's status from now on, which is `waiting_status` if it was not finished; None
    when its file was not missing."""
    values = {"chunk_id": chunk_id, "waiting_status": waiting_status}
    return scalar(connection, str, "files/restore_chunk", **values)
