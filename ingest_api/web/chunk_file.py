"""Answers with a chunk's recording, for everybody who may have it."""

from uuid import UUID

from flask import Response

from ingest_api.components import components
from ingest_api.errors import (
    ChunkNotFound,
    ChunkPruned,
    FileDamaged,
    FileMissing,
    StorageUnavailable,
)
from ingest_api.schemas.fields import parse_uuid
from ingest_api.usecases.downloads import open_chunk
from ingest_api.web.file_response import file_response
from ingest_api.web.nginx import leave_file_to_proxy

AUDIO = "audio/ogg"
FILE_ERRORS = (ChunkNotFound, ChunkPruned, FileMissing, FileDamaged, StorageUnavailable)


def chunk_key(chunk_id: str) -> UUID:
    """Return the id in a URL. ChunkNotFound."""
    try:
        return parse_uuid(chunk_id)
    except ValueError:
        raise ChunkNotFound from None


def send_chunk_file(chunk_id: str) -> Response:
    """Return a chunk's file: whole, in part, or not modified. ChunkNotFound, ChunkPruned,
    FileMissing, FileDamaged, StorageUnavailable."""
    parts = components()
    download = open_chunk(chunk_key(chunk_id), database=parts.database, store=parts.storage)
    chunk, content = download.chunk, download.content
    response = file_response(
        content.file,
        size=content.status.size,
        written_at=content.status.written_at,
        etag=chunk.sha256.hex() if chunk.sha256 else None,
        mimetype=AUDIO,
    )
    response.headers["Content-Disposition"] = f'attachment; filename="chunk_{chunk.chunk_id}.ogg"'
    response.cache_control.private = True
    leave_file_to_proxy(response, content.path)
    return response
