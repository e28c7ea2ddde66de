"""Chunks, for workers on other machines, who have the internal token."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from ingest_api import queries
from ingest_api.auth import require_internal
from ingest_api.errors import ChunkNotFound
from ingest_api.schemas import dump_chunk, parse_uuid
from ingest_api.services import services

blueprint = Blueprint("internal", __name__)
blueprint.before_request(require_internal)


@blueprint.get("/chunks/<chunk_id>")
def get_chunk(chunk_id: str) -> ResponseReturnValue:
    try:
        key = parse_uuid(chunk_id)
    except ValueError:
        raise ChunkNotFound from None
    with services().database.connection() as connection:
        chunk = queries.get_chunk(connection, key)
    if chunk is None:
        raise ChunkNotFound
    return jsonify(dump_chunk(chunk))
