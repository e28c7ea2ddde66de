"""Assembles the WSGI application from its parts; nothing else."""

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from ingest_api.components import EXTENSION, Components
from ingest_api.settings import Settings
from ingest_api.web import access_log, nginx, problems
from ingest_api.web.blueprints import checks, chunks, health, internal, metrics, openapi
from ingest_api.web.blueprints.admin import chunks as admin_chunks
from ingest_api.web.blueprints.admin import coverage, devices, fleet, points
from ingest_api.web.body import JSON_BYTES, IngestRequest, current_request


def create_app(settings: Settings | None = None) -> Flask:
    """Return the WSGI application. SettingsError when its settings are unusable or unsafe."""
    settings = settings or Settings.from_environ(serving=True)
    app = Flask("ingest_api", static_folder=None)
    app.request_class = IngestRequest
    app.json = DefaultJSONProvider(app)
    app.json.sort_keys = False  # keep the order that the contract shows
    app.url_map.merge_slashes = False  # agents take a redirect for a failure
    app.config["MAX_CONTENT_LENGTH"] = JSON_BYTES
    app.extensions[EXTENSION] = components = Components.build(settings)
    app.after_request(lambda response: current_request().discard_body_after(response))
    nginx.register(app)  # before the log, which then has the status that the client gets
    access_log.register(app, components.metrics.count_upload)
    problems.register(app)
    app.register_blueprint(chunks.blueprint, url_prefix="/api/v1")
    for admin in (devices, points, admin_chunks, coverage, fleet):
        app.register_blueprint(admin.blueprint, url_prefix="/api/v1/admin")
    app.register_blueprint(internal.blueprint, url_prefix="/api/v1/internal")
    app.register_blueprint(openapi.blueprint, url_prefix="/api/v1")
    app.register_blueprint(health.blueprint)
    app.register_blueprint(metrics.blueprint)
    app.register_blueprint(checks.blueprint, url_prefix=nginx.CHECKS)
    if settings.docs_enabled:
        _enable_docs(app)
    if settings.cors_enabled:
        _enable_cors(app, settings)
    return app


def _enable_docs(app: Flask) -> None:
    from flask_swagger_ui import (  # type: ignore[import-untyped]  # noqa: PLC0415  an extra
        get_swaggerui_blueprint,
    )

    pages = get_swaggerui_blueprint("/docs", "/api/v1/openapi.json", {"app_name": "Ingest API"})
    app.register_blueprint(pages, url_prefix="/docs")


def _enable_cors(app: Flask, settings: Settings) -> None:
    from flask_cors import CORS  # noqa: PLC0415  an optional extra; checked with the settings

    CORS(app, origins=list(settings.cors_origins), expose_headers=["X-Request-ID", "Link"])
