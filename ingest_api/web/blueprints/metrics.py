"""Metrics for Prometheus, with the metrics token or from this machine."""

import logging

import psycopg
from flask import Blueprint, Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from ingest_api.components import Components, components
from ingest_api.errors import DatabaseUnavailable, IngestError
from ingest_api.models.monitoring import LedgerFigures
from ingest_api.usecases.monitoring import get_figures
from ingest_api.web.auth import require_metrics
from ingest_api.web.openapi.operations import describe

blueprint = Blueprint("metrics", __name__)
blueprint.before_request(require_metrics)
_log = logging.getLogger(__name__)


@blueprint.get("/metrics")
@describe("Metrics for Prometheus", media=("text/plain",))
def metrics() -> Response:
    parts = components()
    body = parts.metrics.expose(_figures(parts))
    return Response(body, content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _figures(parts: Components) -> LedgerFigures | None:
    """Return the ledger's figures, or None if it cannot be read within 2 s."""
    try:
        with parts.database.connection() as connection:
            return get_figures(
                connection, parts.settings.bounds, free_bytes=parts.storage.free_bytes()
            )
    except DatabaseUnavailable as error:
        _log.warning("the ledger cannot be read for /metrics: %s", error.cause)
    except (IngestError, psycopg.Error) as error:
        _log.error("the ledger cannot be read for /metrics: %s", error)
    return None
