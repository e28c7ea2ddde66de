"""Chunks, for workers on other machines; requires the internal token."""

from datetime import UTC, datetime

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from ingest_api.components import components
from ingest_api.errors import (
    ChunkFinished,
    ChunkInWork,
    ChunkLocked,
    ChunkNotFound,
    ChunkPruned,
    LeaseLost,
)
from ingest_api.schemas.answers import ChunkAnswer, ClaimedChunkAnswer, ClaimedChunksAnswer
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
from ingest_api.web.chunk_file import AUDIO, FILE_ERRORS, chunk_key, send_chunk_file
from ingest_api.web.openapi.operations import describe

blueprint = Blueprint("internal", __name__)
blueprint.before_request(require_internal)

_GONE = (ChunkNotFound, ChunkPruned)


@blueprint.post("/claim")
@describe("Claim chunks to process", body=ClaimSchema, answer=ClaimedChunksAnswer)
def claim() -> ResponseReturnValue:
    chunks = components().leases.claim(load(ClaimSchema(), json_body()))
    return jsonify(
        {
            "chunks": [dump_claimed(chunk) for chunk in chunks],
            "server_time": rfc3339(datetime.now(UTC)),
        }
    )


@blueprint.post("/chunks/<chunk_id>/claim")
@describe(
    "Claim a certain chunk",
    body=WorkerSchema,
    answer=ClaimedChunkAnswer,
    errors=(*_GONE, ChunkInWork, ChunkFinished, ChunkLocked),
)
def claim_one(chunk_id: str) -> ResponseReturnValue:
    values = load(WorkerSchema(), json_body())
    return jsonify(dump_claimed(components().leases.claim_one(chunk_key(chunk_id), **values)))


@blueprint.post("/chunks/<chunk_id>/extend")
@describe(
    "Extend a lease",
    body=ExtensionSchema,
    answer=ClaimedChunkAnswer,
    errors=(*_GONE, LeaseLost, ChunkLocked),
)
def extend(chunk_id: str) -> ResponseReturnValue:
    values = load(ExtensionSchema(), json_body())
    return jsonify(dump_claimed(components().leases.extend(chunk_key(chunk_id), **values)))


@blueprint.post("/chunks/<chunk_id>/done")
@describe(
    "Report that a chunk is done",
    body=AttemptSchema,
    answer=ChunkAnswer,
    errors=(*_GONE, LeaseLost, ChunkLocked),
)
def done(chunk_id: str) -> ResponseReturnValue:
    values = load(AttemptSchema(), json_body())
    return jsonify(dump_chunk(components().leases.finish(chunk_key(chunk_id), **values)))


@blueprint.post("/chunks/<chunk_id>/error")
@describe(
    "Report that a chunk failed",
    body=FailureSchema,
    answer=ChunkAnswer,
    errors=(*_GONE, LeaseLost, ChunkLocked),
)
def error(chunk_id: str) -> ResponseReturnValue:
    values = load(FailureSchema(), json_body())
    return jsonify(dump_chunk(components().leases.fail(chunk_key(chunk_id), **values)))


@blueprint.get("/chunks/<chunk_id>")
@describe("Return a chunk", answer=ChunkAnswer, errors=_GONE)
def get_chunk(chunk_id: str) -> ResponseReturnValue:
    with components().database.connection() as connection:
        chunk = find_chunk(connection, chunk_key(chunk_id))
    return jsonify(dump_chunk(chunk))


@blueprint.get("/chunks/<chunk_id>/file")
@describe("Return a recording", media=(AUDIO,), is_file=True, errors=FILE_ERRORS)
def get_file(chunk_id: str) -> ResponseReturnValue:
    return send_chunk_file(chunk_id)
