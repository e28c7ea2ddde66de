"""Whether the service lives, and whether it could take an upload now."""

from datetime import UTC, datetime
from http import HTTPStatus

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from ingest_api import queries
from ingest_api.database import Database
from ingest_api.errors import DatabaseUnavailable
from ingest_api.schemas import rfc3339
from ingest_api.services import services

DATABASE_SECONDS = 2.0
"""So that the answer comes within 3 s even when PostgreSQL hangs."""

blueprint = Blueprint("health", __name__)


@blueprint.get("/health")
def health() -> ResponseReturnValue:
    db = _answers(services().database)
    storage_writable = services().storage.is_writable()
    healthy = db and storage_writable
    body = {
        "status": "ok" if healthy else "degraded",
        "db": db,
        "storage_writable": storage_writable,
        "time": rfc3339(datetime.now(UTC).replace(microsecond=0)),
    }
    return jsonify(body), HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE


@blueprint.get("/health/live")
def live() -> ResponseReturnValue:
    return jsonify({"status": "ok"})


def _answers(database: Database) -> bool:
    try:
        with database.connection(DATABASE_SECONDS) as connection:
            queries.ping(connection)
    except DatabaseUnavailable:
        return False
    return True
