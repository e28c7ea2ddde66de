"""Checks before the first process serves."""

import logging

import psycopg

from ingest_api.database.migrations import require_current
from ingest_api.database.pool import connect as connect_database
from ingest_api.errors import IngestError
from ingest_api.settings import Settings
from ingest_api.storage.disk.storage import DiskStorage
from ingest_api.stream import client
from ingest_api.stream.client import StreamError

_log = logging.getLogger(__name__)


def prepare_to_serve(settings: Settings) -> None:
    """Prepare once, before the first server process starts. SchemaError if the schema is behind or
    ahead, TransactionPooling behind a pooler without sessions. An unreachable database, storage or
    Redis does not prevent a start."""
    try:
        DiskStorage(settings.audio_storage_dir).prepare()
    except IngestError as error:
        _log.error("starting without storage, uploads get 503: %s", error.cause)
    if settings.queue_backend == "redis":
        _check_redis(settings)
    check_before_serving(settings)


def _check_redis(settings: Settings) -> None:
    try:
        client.connect(settings, seconds=1.0).close()
    except StreamError as error:
        _log.error(
            "starting without Redis (REDIS_URL), uploads are stored and get queued: false until "
            "`flask ingest relay` announces them: %s",
            error,
        )


def check_before_serving(settings: Settings) -> None:
    """Raise SchemaError if the schema is behind or, unless ALLOW_NEWER_SCHEMA, ahead, and
    TransactionPooling behind a pooler that gives each transaction another session.

    An unreachable database does not prevent a start: uploads get 503 until it is back.
    """
    try:
        with connect_database(settings) as connection:
            require_current(connection, allow_newer=settings.allow_newer_schema)
    except psycopg.OperationalError as error:
        _log.warning("starting without a database, uploads get 503: %s", error)
