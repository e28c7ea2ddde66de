"""Formats log lines on standard error: JSON for programs, text for people.

LOG_FORMAT decides; without it, text if standard error is a terminal.
"""

import logging
import sys
from datetime import UTC, datetime
from typing import Any

from flask import g, has_request_context

from ingest_api.display import printable
from ingest_api.settings import Settings

_JSON = {
    "()": "pythonjsonlogger.json.JsonFormatter",
    "fmt": ["levelname", "name", "message"],
    "rename_fields": {"levelname": "level", "name": "logger"},
    "timestamp": "time",
}


def logging_config(settings: Settings) -> dict[str, Any]:
    """Return a `logging.config.dictConfig` for the service, gunicorn and commands."""
    level = settings.log_level
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": _JSON, "text": {"()": TextFormatter}},
        "filters": {"request_id": {"()": RequestIdFilter}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": settings.log_format or _default_format(),
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


def _default_format() -> str:
    return "text" if sys.stderr.isatty() else "json"


class TextFormatter(logging.Formatter):
    """Formats a record as one readable line: time (UTC), level, message, extra fields."""

    _STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message"}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and a traceback indented below it, with control characters escaped."""
        fields = {
            name: value
            for name, value in vars(record).items()
            if name not in self._STANDARD and value is not None
        }
        time = f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%d %H:%M:%S}"
        message = _request(fields) if "method" in fields else record.getMessage()
        rest = "".join(f" {name}={_quoted(value)}" for name, value in fields.items())
        line = f"{time} {record.levelname:7} {printable(message + rest)}"
        if record.exc_info:
            trace = self.formatException(record.exc_info).splitlines()
            # Indented: a line of an exception's text must not look like a line of the log.
            line = "\n".join((line, *(f"  {printable(part)}" for part in trace)))
        return line


def _request(fields: dict[str, Any]) -> str:
    """Return the beginning of a request's line, and remove it from `fields`."""
    method, path, status, ms = (fields.pop(name, "") for name in ("method", "path", "status", "ms"))
    return f"{method} {_quoted(path)} {status} {ms} ms"


def _quoted(value: Any) -> str:
    """Return a value as text, in quotation marks if it would look like several."""
    text = str(value)
    if not {" ", '"'} & set(text):
        return text
    return '"' + text.replace("\\", r"\\").replace('"', r"\"") + '"'


class RequestIdFilter(logging.Filter):
    """Adds `request_id` to records that are logged while a request is served."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the id, and let every record pass."""
        if has_request_context():
            record.request_id = g.get("request_id")
        return True
