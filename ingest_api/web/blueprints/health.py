"""Liveness, and whether the service could accept an upload now."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus

import psycopg
from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from ingest_api.components import components
from ingest_api.database import queries
from ingest_api.errors import IngestError
from ingest_api.schemas.answers import HealthAnswer, LiveAnswer
from ingest_api.schemas.fields import rfc3339
from ingest_api.web.openapi.operations import describe

blueprint = Blueprint("health", __name__)
_log = logging.getLogger(__name__)


@blueprint.get("/health")
@describe("Could an upload be stored now?", answer=HealthAnswer, statuses=(200, 503))
def health() -> ResponseReturnValue:
    db = _works(_probe_database)
    storage_writable = _works(components().storage.probe)
    healthy = db and storage_writable
    body = {
        "status": "ok" if healthy else "degraded",
        "db": db,
        "storage_writable": storage_writable,
        "time": rfc3339(datetime.now(UTC).replace(microsecond=0)),
    }
    return jsonify(body), HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE


@blueprint.get("/health/live")
@describe("The process serves", answer=LiveAnswer)
def live() -> ResponseReturnValue:
    return jsonify({"status": "ok"})


def _probe_database() -> None:
    with components().database.upload_connection("health") as connection:
        queries.chunks.probe(connection)


def _works(check: Callable[[], None]) -> bool:
    try:
        check()
    except IngestError as error:
        _log.error("%s: %s", error.code, error.cause)
        return False
    except psycopg.Error as error:  # a table or a privilege is missing: uploads get 500
        _log.error("the database refuses uploads: %s", error)
        return False
    return True
