"""How log lines look: JSON on standard error, with the id of the request being served."""

import logging
from typing import Any

from flask import g, has_request_context

_JSON = {
    "()": "pythonjsonlogger.json.JsonFormatter",
    "fmt": ["levelname", "name", "message"],
    "rename_fields": {"levelname": "level", "name": "logger"},
    "timestamp": "time",
}


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
