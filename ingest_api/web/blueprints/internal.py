"""Chunks, for workers on other machines, who have the internal token."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from ingest_api.components import components
from ingest_api.errors import ChunkNotFound
from ingest_api.models.queue import Claim, Failure
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
    values = _with_lease(load(ClaimSchema(), json_body()))
    chunks = components().leases.claim(Claim(**values))
    return jsonify(
        {
            "chunks": [dump_claimed(chunk) for chunk in chunks],
            "server_time": rfc3339(datetime.now(UTC)),
        }
    )


@blueprint.post("/chunks/<chunk_id>/claim")
def claim_one(chunk_id: str) -> ResponseReturnValue:
    values = _with_lease(load(WorkerSchema(), json_body()))
    return jsonify(dump_claimed(components().leases.claim_one(_key(chunk_id), **values)))


@blueprint.post("/chunks/<chunk_id>/extend")
def extend(chunk_id: str) -> ResponseReturnValue:
    values = _with_lease(load(ExtensionSchema(), json_body()))
    return jsonify(dump_claimed(components().leases.extend(_key(chunk_id), **values)))


@blueprint.post("/chunks/<chunk_id>/done")
def done(chunk_id: str) -> ResponseReturnValue:
    values = load(AttemptSchema(), json_body())
    return jsonify(dump_chunk(components().leases.finish(_key(chunk_id), **values)))


@blueprint.post("/chunks/<chunk_id>/error")
def error(chunk_id: str) -> ResponseReturnValue:
    values = load(FailureSchema(), json_body())
    attempt = values.pop("attempt")
    chunk = components().leases.fail(_key(chunk_id), Failure(**values), attempt=attempt)
    return jsonify(dump_chunk(chunk))


@blueprint.get("/chunks/<chunk_id>")
def get_chunk(chunk_id: str) -> ResponseReturnValue:
    with components().database.connection() as connection:
        chunk = find_chunk(connection, _key(chunk_id))
    return jsonify(dump_chunk(chunk))


@blueprint.get("/chunks/<chunk_id>/file")
def get_file(chunk_id: str) -> ResponseReturnValue:
    part = components()
    download = open_chunk(_key(chunk_id), database=part.database, files=part.files)
    chunk = download.chunk
    response = file_response(
        download.file,
        size=chunk.file_size_bytes,
        written_at=download.written_at,
        etag=chunk.sha256.hex() if chunk.sha256 else None,
        mimetype="audio/ogg",
    )
    response.headers["Content-Disposition"] = f'attachment; filename="chunk_{chunk.chunk_id}.ogg"'
    response.cache_control.private = True
    leave_file_to_proxy(response, part.files.canonical(chunk.file_path))
    return response


def _key(chunk_id: str) -> UUID:
    try:
        return parse_uuid(chunk_id)
    except ValueError:
        raise ChunkNotFound from None


def _with_lease(values: dict[str, Any]) -> dict[str, Any]:
    return values | {"lease": timedelta(seconds=values.pop("lease_sec"))}
