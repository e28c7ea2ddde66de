"""The ledger of chunks, for administrators; requires the admin token."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue

from ingest_api.components import components
from ingest_api.errors import ChunkNotFound, ChunkPruned, RegisterNotFound
from ingest_api.models.chunks import ChunkPosition, ChunkSelection
from ingest_api.schemas.answers import ChunkAnswer, ChunkPageAnswer
from ingest_api.schemas.cursors import dump_cursor, load_cursor
from ingest_api.schemas.exports import csv_rows, dump_row, json_lines
from ingest_api.schemas.queries import ChunkQuerySchema, chunk_selection, refuse_paging
from ingest_api.schemas.queue import dump_chunk
from ingest_api.usecases.chunks import ChunkRow, export_chunks, list_chunks
from ingest_api.usecases.downloads import find_chunk
from ingest_api.web.auth import require_admin
from ingest_api.web.chunk_file import AUDIO, FILE_ERRORS, chunk_key, send_chunk_file
from ingest_api.web.openapi.operations import describe
from ingest_api.web.paging import page, query

blueprint = Blueprint("admin_chunks", __name__)
blueprint.before_request(require_admin)

_Export = Callable[[Iterable[list[ChunkRow]]], Iterator[str]]
_EXPORTS: dict[str, _Export] = {"application/x-ndjson": json_lines, "text/csv": csv_rows}


@blueprint.get("/chunks")
@describe(
    "List chunks, by recording: a page in JSON, or all of the selection as CSV or JSON lines",
    query=ChunkQuerySchema,
    answer=ChunkPageAnswer,
    media=tuple(_EXPORTS),
    errors=(RegisterNotFound,),
)
def get_chunks() -> ResponseReturnValue:
    values = query(ChunkQuerySchema())
    selection = chunk_selection(values, components().settings.naive_timestamp_zone)
    offered = ["application/json", *_EXPORTS]
    mimetype = request.accept_mimetypes.best_match(offered, default=offered[0])
    if mimetype in _EXPORTS:
        refuse_paging(request.args)
        return _export(selection, mimetype)
    after = load_cursor(ChunkPosition, values["cursor"], vars(selection))
    with components().database.connection() as connection:
        chunks, last = list_chunks(connection, selection, after=after, limit=values["limit"])
    content = {"chunks": [dump_row(chunk) for chunk in chunks]}
    return page(content, dump_cursor(last, vars(selection)))


@blueprint.get("/chunks/<chunk_id>")
@describe("Return a chunk", answer=ChunkAnswer, errors=(ChunkNotFound, ChunkPruned))
def get_chunk(chunk_id: str) -> ResponseReturnValue:
    with components().database.connection() as connection:
        chunk = find_chunk(connection, chunk_key(chunk_id))
    return jsonify(dump_chunk(chunk))


@blueprint.get("/chunks/<chunk_id>/file")
@describe("Return a recording", media=(AUDIO,), is_file=True, errors=FILE_ERRORS)
def get_file(chunk_id: str) -> ResponseReturnValue:
    return send_chunk_file(chunk_id)


def _export(selection: ChunkSelection, mimetype: str) -> Response:
    """Stream a whole selection. If it fails, the body ends without the last piece of its chunked
    coding (RFC 9112, section 8), which clients report as an error."""
    pages = export_chunks(components().database.connection, selection)
    first = next(pages)  # so that a database that fails gets its own answer
    response = Response(_EXPORTS[mimetype](chain([first], pages)), mimetype=mimetype)
    name = f"chunks.{mimetype.rpartition('/')[2].removeprefix('x-')}"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    response.headers["Vary"] = "Accept"
    return response
