"""Wiring only: which parts an application is made of."""

import logging

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from ingest_api import logs
from ingest_api.components import EXTENSION, Components
from ingest_api.database.migrations import check_before_serving, refuse_old_schema
from ingest_api.database.pool import Database
from ingest_api.errors import IngestError
from ingest_api.settings import Settings
from ingest_api.storage.disk.storage import DiskStorage
from ingest_api.storage.disk.upkeep import StoredFiles
from ingest_api.stream import client
from ingest_api.stream.announcer import Announcer
from ingest_api.stream.client import StreamError
from ingest_api.usecases.leases import Leases
from ingest_api.web import nginx, problems
from ingest_api.web.blueprints import chunks, health, internal
from ingest_api.web.blueprints.admin import devices
from ingest_api.web.body import JSON_BYTES, IngestRequest, current_request

_log = logging.getLogger(__name__)


def create_app(settings: Settings | None = None) -> Flask:
    """The WSGI application; SettingsError when it must not be served as it is configured."""
    settings = settings or Settings.from_environ(serving=True)
    app = Flask("ingest_api", static_folder=None)
    app.request_class = IngestRequest
    app.json = DefaultJSONProvider(app)
    app.json.sort_keys = False  # as the contract shows them
    app.url_map.merge_slashes = False  # a redirect is no success to an agent
    app.config["MAX_CONTENT_LENGTH"] = JSON_BYTES
    app.extensions[EXTENSION] = _make_services(settings)
    app.after_request(lambda response: current_request().discard_body_after(response))
    logs.register(app)
    problems.register(app)
    nginx.register(app)
    app.register_blueprint(chunks.blueprint, url_prefix="/api/v1")
    app.register_blueprint(devices.blueprint, url_prefix="/api/v1/admin")
    app.register_blueprint(internal.blueprint, url_prefix="/api/v1/internal")
    app.register_blueprint(health.blueprint)
    if settings.cors_enabled:
        _enable_cors(app, settings)
    return app


def _make_services(settings: Settings) -> Components:
    database = Database(settings, configure=refuse_old_schema)
    return Components(
        settings=settings,
        database=database,
        storage=DiskStorage(settings),
        files=StoredFiles(settings.audio_storage_dir),
        leases=Leases(database, max_attempts=settings.max_attempts),
        announcer=Announcer(settings) if settings.queue_backend == "redis" else None,
    )


def prepare_to_serve(settings: Settings) -> None:
    """Once, before the first worker starts. SchemaError on a schema that is behind or ahead. A
    database, a storage or a Redis that is not there yet is no reason not to start."""
    try:
        DiskStorage(settings).prepare()
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


def _enable_cors(app: Flask, settings: Settings) -> None:
    from flask_cors import CORS  # noqa: PLC0415  an extra; the settings know that it is there

    CORS(app, origins=list(settings.cors_origins), expose_headers=["X-Request-ID"])
