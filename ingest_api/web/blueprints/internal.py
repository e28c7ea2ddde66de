"""Chunks, for workers on other machines; requires the internal token."""

from datetime import UTC, datetime
from uuid import UUID

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from ingest_api.components import components
from ingest_api.errors import ChunkNotFound
from ingest_api.schemas.fields import load, parse_uuid, rfc3339
from ingest_api.schemas.queue import (
    AttemptSchema,
    ClaimSchema,
    ExtensionSchema,
    FailureSchema,
    WorkerSchema,
    dump_chunk,
    dump_claimed,
)
from ingest_api.usecases.downloads import find_chunk, open_chunk
from ingest_api.web.auth import require_internal
from ingest_api.web.body import json_body
from ingest_api.web.file_response import file_response
from ingest_api.web.nginx import leave_file_to_proxy

blueprint = Blueprint("internal", __name__)
blueprint.before_request(require_internal)


@blueprint.post("/claim")
def claim() -> ResponseReturnValue:
    chunks = components().leases.claim(load(ClaimSchema(), json_body()))
    return jsonify(
        {
            "chunks": [dump_claimed(chunk) for chunk in chunks],
            "server_time": rfc3339(datetime.now(UTC)),
        }
    )


@blueprint.post("/chunks/<chunk_id>/claim")
def claim_one(chunk_id: str) -> ResponseReturnValue:
    values = load(WorkerSchema(), json_body())
    return jsonify(dump_claimed(components().leases.claim_one(_key(chunk_id), **values)))


@blueprint.post("/chunks/<chunk_id>/extend")
def extend(chunk_id: str) -> ResponseReturnValue:
    values = load(ExtensionSchema(), json_body())
    return jsonify(dump_claimed(components().leases.extend(_key(chunk_id), **values)))


@blueprint.post("/chunks/<chunk_id>/done")
def done(chunk_id: str) -> ResponseReturnValue:
    values = load(AttemptSchema(), json_body())
    return jsonify(dump_chunk(components().leases.finish(_key(chunk_id), **values)))


@blueprint.post("/chunks/<chunk_id>/error")
def error(chunk_id: str) -> ResponseReturnValue:
    values = load(FailureSchema(), json_body())
    return jsonify(dump_chunk(components().leases.fail(_key(chunk_id), **values)))


@blueprint.get("/chunks/<chunk_id>")
def get_chunk(chunk_id: str) -> ResponseReturnValue:
    with components().database.connection() as connection:
        chunk = find_chunk(connection, _key(chunk_id))
    return jsonify(dump_chunk(chunk))


@blueprint.get("/chunks/<chunk_id>/file")
def get_file(chunk_id: str) -> ResponseReturnValue:
    parts = components()
    download = open_chunk(_key(chunk_id), database=parts.database, store=parts.storage)
    chunk, content = download.chunk, download.content
    response = file_response(
        content.file,
        size=content.status.size,
        written_at=content.status.written_at,
        etag=chunk.sha256.hex() if chunk.sha256 else None,
        mimetype="audio/ogg",
    )
    response.headers["Content-Disposition"] = f'attachment; filename="chunk_{chunk.chunk_id}.ogg"'
    response.cache_control.private = True
    leave_file_to_proxy(response, content.path)
    return response


def _key(chunk_id: str) -> UUID:
    try:
        return parse_uuid(chunk_id)
    except ValueError:
        raise ChunkNotFound from None
