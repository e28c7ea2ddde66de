"""Gives each request an id and one log line."""

import logging
import re
import uuid
from collections.abc import Callable
from http import HTTPStatus
from time import monotonic

from flask import Flask, Response, g

from ingest_api.web.body import current_request
from ingest_api.web.nginx import client_address, is_check, requested

_log = logging.getLogger("ingest_api.access")
_UPLOAD = "chunks.upload"
_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def register(app: Flask, count_upload: Callable[[int, str | None, int], None]) -> None:
    """Give each request an id and a log line, and count each upload by its status, its error code
    and the bytes received."""

    def finish(response: Response) -> Response:
        request = current_request()
        if request.endpoint == _UPLOAD:
            count_upload(response.status_code, g.get("error_code"), request.stream.received)
        return _finish(response)

    app.before_request(_begin)
    app.after_request(finish)


def _begin() -> None:
    sent = current_request().headers.get("X-Request-ID", "")
    g.request_id = sent if _SANE_ID.fullmatch(sent) else uuid.uuid4().hex
    g.started = monotonic()


def _finish(response: Response) -> Response:
    request = current_request()
    response.headers["X-Request-ID"] = g.request_id
    if is_check() and response.status_code < HTTPStatus.BAD_REQUEST:
        return response  # the request itself comes next
    device_id = g.get("device_id")
    method, path = requested()
    _log.info(
        "request",
        extra={
            "method": method,
            "path": path,
            "status": response.status_code,
            "code": g.get("error_code"),
            "ms": round((monotonic() - g.started) * 1000, 1),
            "device_id": str(device_id) if device_id else None,
            "bytes": request.stream.received,
            "client": client_address(),
        },
    )
    return response
