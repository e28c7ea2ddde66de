"""Chunks, for workers on other machines; requires the internal token."""

from datetime import UTC, datetime

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from ingest_api.components import components
from ingest_api.schemas.fields import load, rfc3339
from ingest_api.schemas.queue import (
    AttemptSchema,
    ClaimSchema,
    ExtensionSchema,
    FailureSchema,
    WorkerSchema,
    dump_chunk,
    dump_claimed,
)
from ingest_api.usecases.downloads import find_chunk
from ingest_api.web.auth import require_internal
from ingest_api.web.body import json_body
from ingest_api.web.chunk_file import chunk_key, send_chunk_file

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
    return jsonify(dump_claimed(components().leases.claim_one(chunk_key(chunk_id), **values)))


@blueprint.post("/chunks/<chunk_id>/extend")
def extend(chunk_id: str) -> ResponseReturnValue:
    values = load(ExtensionSchema(), json_body())
    return jsonify(dump_claimed(components().leases.extend(chunk_key(chunk_id), **values)))


@blueprint.post("/chunks/<chunk_id>/done")
def done(chunk_id: str) -> ResponseReturnValue:
    values = load(AttemptSchema(), json_body())
    return jsonify(dump_chunk(components().leases.finish(chunk_key(chunk_id), **values)))


@blueprint.post("/chunks/<chunk_id>/error")
def error(chunk_id: str) -> ResponseReturnValue:
    values = load(FailureSchema(), json_body())
    return jsonify(dump_chunk(components().leases.fail(chunk_key(chunk_id), **values)))


@blueprint.get("/chunks/<chunk_id>")
def get_chunk(chunk_id: str) -> ResponseReturnValue:
    with components().database.connection() as connection:
        chunk = find_chunk(connection, chunk_key(chunk_id))
    return jsonify(dump_chunk(chunk))


@blueprint.get("/chunks/<chunk_id>/file")
def get_file(chunk_id: str) -> ResponseReturnValue:
    return send_chunk_file(chunk_id)
