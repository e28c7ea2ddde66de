"""Log lines as JSON, one a request, each with the request's id."""

import logging
import re
import uuid
from time import monotonic
from typing import Any

from flask import Flask, Response, g, has_request_context

from ingest_api.web.body import current_request
from ingest_api.web.nginx import client_address

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_JSON = {
    "()": "pythonjsonlogger.json.JsonFormatter",
    "fmt": ["levelname", "name", "message"],
    "rename_fields": {"levelname": "level", "name": "logger"},
    "timestamp": "time",
}
_log = logging.getLogger("ingest_api.access")


def logging_config(level: str) -> dict[str, Any]:
    """A `logging.config.dictConfig` for the service and for gunicorn: JSON on standard error."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": _JSON},
        "filters": {"request_id": {"()": RequestIdFilter}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "json",
                "filters": ["request_id"],
            }
        },
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": {
            "gunicorn.error": {"level": level, "handlers": [], "propagate": True},
            # At INFO the pool writes two lines for every use of a connection.
            "psycopg.pool": {"level": "WARNING"},
        },
    }


class RequestIdFilter(logging.Filter):
    """Adds `request_id` to what is logged while a request is served."""

    def filter(self, record: logging.LogRecord) -> bool:
        if has_request_context():
            record.request_id = g.get("request_id")
        return True


def register(app: Flask) -> None:
    """Give each request an id and a log line."""
    app.before_request(_begin)
    app.after_request(_finish)


def _begin() -> None:
    sent = current_request().headers.get("X-Request-ID", "")
    g.request_id = sent if _SANE_ID.fullmatch(sent) else uuid.uuid4().hex
    g.started = monotonic()


def _finish(response: Response) -> Response:
    request = current_request()
    response.headers["X-Request-ID"] = g.request_id
    device_id = g.get("device_id")
    _log.info(
        "request",
        extra={
            "method": request.method,
            "path": request.path,
            "status": response.status_code,
            "code": g.get("error_code"),
            "ms": round((monotonic() - g.started) * 1000, 1),
            "device_id": str(device_id) if device_id else None,
            "bytes": request.stream.received,
            "client": client_address(),
        },
    )
    return response
